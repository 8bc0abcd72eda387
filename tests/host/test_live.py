"""What nodes say while a run goes on, and what Guidance Report shows of a run that was kept."""

import math
import re

import pytest
from graph import Graph, cfg_combine, classifier_guidance, fresh, schedule

STEPS = 120


def digits_ksampler(g, digits, model, steps=STEPS, batch=1, **changes):
    """A KSampler on the digits, by the null label alone."""
    null = g.GuidanceKitNullConditionEncoder(kind={"kind": "class null label"}, model=digits)
    inputs = {
        "seed": 3,
        "steps": steps,
        "cfg": 1.0,
        "sampler_name": "euler",
        "scheduler": "normal",
        "denoise": 1.0,
        "positive": null,
        "negative": null,
        "latent_image": g.EmptyLatentImage(width=128, height=128, batch_size=batch),
    }
    return g.KSampler(**{**inputs, **changes, "model": model})


def meanwhile(result, node) -> list[str]:
    """The texts that a node showed while its run went on."""
    return [text for text in result.texts.get(node.node, []) if text.startswith("Step ")]


def test_nodes_say_how_the_run_goes_and_at_the_end_what_they_did(server):
    """Each text tells of one call, as the report after the run does; passes are counted up to it."""
    g = Graph()
    digits = g.GuidanceKitLoadDigitsDemo()
    window = schedule(g, "interval", "step", start=0.0, end=0.5)
    first = classifier_guidance(g, digits, digits.slot(2), "seven", 2.0)
    second = classifier_guidance(g, first, digits.slot(2), "-three", 1.0, window)
    model = cfg_combine(g, second, 3.0, "standard", window)
    latent = digits_ksampler(g, digits, model)
    report = g.GuidanceKitGuidanceReport(model=model, steps=STEPS, scheduler="normal", latent=latent)
    full = g.PreviewAny(source=report)
    result = server.run(g.prompt)

    calls = {}  # number: (passes up to it, the probability of seven, in percent)
    passes = 0
    for line in result.outputs[full.node]["text"][0].splitlines():
        if found := re.match(r"call (\d+), .* passes (\d), classifier 2 log p ([^ ,]+)", line):
            passes += int(found[2])
            calls[int(found[1])] = (passes, 100 * math.exp(float(found[3])))
    assert len(calls) == STEPS

    texts = meanwhile(result, first)
    assert texts
    steps = []
    for text in texts:
        step, sure = re.fullmatch(rf"Step (\d+) of {STEPS}\ntarget ([\d.]+) %, classifier scale 2", text).groups()
        steps.append(int(step))
        assert float(sure) == pytest.approx(calls[steps[-1]][1], rel=0.02, abs=0.06)
    assert steps == sorted(set(steps))
    for text in meanwhile(result, model):
        step, scale, run, saved = re.fullmatch(
            rf"Step (\d+) of {STEPS}\nCFG scale (\d), (\d+) passes run, (\d+) saved", text
        ).groups()
        assert (int(run), int(saved)) == (calls[int(step)][0], 2 * int(step) - calls[int(step)][0])
        assert scale == ("3" if int(step) <= STEPS / 2 else "1")
    of_second = "\n".join(meanwhile(result, second))
    assert "classifier scale 1" in of_second
    assert "classifier off at this step" in of_second
    said = re.fullmatch(
        rf"Target's probability at the end: ([\d.]+) %, from ([\d.]+) % at the start \({STEPS} gradients\)\.\n\n"
        r"Push: at most [^\n]+ step\.",
        result.texts[first.node][-1],
    )
    assert float(said[1]) == pytest.approx(calls[STEPS][1], rel=0.02, abs=0.06)
    assert float(said[2]) == pytest.approx(calls[1][1], rel=0.02, abs=0.06)
    of_half = rf"at the last guided step: [\d.]+ %, from [\d.]+ % at the first \({STEPS // 2} gradients\)\."
    assert re.match(f"Target's probability {of_half}", result.texts[second.node][-1])
    assert result.texts[model.node][-1].endswith(f"; {STEPS * 3 // 2} of {STEPS * 2} passes, 25 % saved.")


def test_a_report_shows_its_text_again_when_it_was_kept(server):
    g = Graph()
    digits = g.GuidanceKitLoadDigitsDemo()
    report = g.GuidanceKitGuidanceReport(
        model=cfg_combine(g, digits, 3 + fresh() / 10_000), steps=10, scheduler="normal"
    )
    first, again = server.run(g.prompt), server.run(g.prompt)
    assert not any(kind == "executing" and data["node"] == report.node for kind, data in again.messages)
    for result in (first, again):
        (text,) = result.outputs[report.node]["text"]
        assert "10 steps, 10 of them guided: 20 of 20 passes" in text
        assert result.images(report.node)[0].size == (360, 264)
