"""Test nodes that wait inside the pack: to kill the server or press Cancel while a file is written, and to count."""

import itertools
import os
import signal
from contextlib import contextmanager

import comfy.model_management
from comfy_api.latest import io

from .pack import kit


class ProbeKill(io.ComfyNode):
    """Lets the server be killed at its write number `at` of a file in `folder`: half written, or before it is named."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeKill",
            is_output_node=True,
            inputs=[
                io.Combo.Input("moment", options=["half written", "before its name"]),
                io.String.Input("folder"),
                io.Int.Input("at"),
            ],
            outputs=[],
        )

    @classmethod
    def execute(cls, moment, folder, at):
        files, writes = kit("guidance_core.files"), itertools.count(1)
        whole = files.written_whole

        @contextmanager
        def killed(file):
            with whole(file) as stream:
                yield stream
                if folder in str(file) and next(writes) == at:
                    stream.flush()
                    if moment == "half written":
                        stream.truncate(stream.tell() // 2)
                    os.kill(os.getpid(), signal.SIGKILL)

        files.written_whole = killed
        return io.NodeOutput()


class ProbeCancel(io.ComfyNode):
    """Presses Cancel while the next file in `folder` is written.

    Where `noticed`, the run stops with half of it written, as at a progress bar; else it is written to its end.
    """

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeCancel",
            is_output_node=True,
            not_idempotent=True,
            inputs=[io.String.Input("folder"), io.Boolean.Input("noticed"), io.Int.Input("nonce", default=0)],
            outputs=[],
        )

    @classmethod
    def execute(cls, folder, noticed, nonce):
        files = kit("guidance_core.files")
        whole = files.written_whole

        @contextmanager
        def cancelled(file):
            with whole(file) as stream:
                yield stream
                if folder in str(file):
                    files.written_whole = whole
                    comfy.model_management.interrupt_current_processing()
                    if noticed:
                        stream.truncate(stream.tell() // 2)
                        comfy.model_management.throw_exception_if_processing_interrupted()

        files.written_whole = cancelled
        return io.NodeOutput()


LISTINGS: list[str] = []


class ProbeListings(io.ComfyNode):
    """How often the pack has listed the folders in ComfyUI's input folder since this was last asked."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeListings",
            is_output_node=True,
            not_idempotent=True,
            inputs=[io.Int.Input("nonce", default=0)],
            outputs=[],
        )

    @classmethod
    def execute(cls, nonce):
        folders, counted = kit("nodes.host.input_folders"), len(LISTINGS)
        LISTINGS.clear()
        if folders._listed.__name__ == "_listed":
            listed = folders._listed

            def counting(root, now):
                LISTINGS.append(root)
                return listed(root, now)

            folders._listed = counting
        return io.NodeOutput(ui={"text": [str(counted)]})
