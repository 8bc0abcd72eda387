"""Runs every example workflow in a real ComfyUI and saves its pictures under `output/demo`."""

import json
import sys

from devtools.host import ROOT
from devtools.server import ComfyServer
from devtools.workflow import to_prompt

WORKFLOWS = ROOT / "example_workflows"
PICTURES = ROOT / "output" / "demo"


def main() -> int:
    """Run the workflows one after the other; the pictures are named after workflow and node."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with ComfyServer() as server:
        object_info = server.object_info()
        for path in sorted(WORKFLOWS.glob("*.json")):
            workflow = json.loads(path.read_text(encoding="utf-8"))
            result = server.run(to_prompt(workflow, object_info))
            print(f"{path.stem}: {result.seconds:.1f} s")
            for node_id in result.outputs:
                for i, picture in enumerate(result.images(node_id)):
                    picture.save(PICTURES / f"{path.stem}-{node_id}-{i}.png")
    print(f"The pictures are in {PICTURES}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
