"""A node whose result ComfyUI has from another workflow's run says what it said there."""

import json
from urllib.request import Request, urlopen

import pytest
from graph import Graph, cfg_combine, fresh, ksampler

SCALE = 3 + fresh() / 10_000  # what other tests have run without a workflow's id would be taken from there, in silence


def texts(server, workflow: str) -> dict[str, str]:
    """What the nodes of a workflow said last, as a page is told that asks."""
    request = Request(f"{server.url}/guidance_kit/texts", workflow.encode(), method="POST")
    with urlopen(request, timeout=30) as answer:
        return {node: each["text"] for node, each in json.load(answer).items()}


def run(server, workflow: str, g: Graph) -> dict[str, str]:
    server.run(g.prompt, extra_data={"extra_pnginfo": {"workflow": {"id": workflow}}})
    return texts(server, workflow)


def sampling(scale: float, seed: int) -> tuple[Graph, dict[str, str]]:
    """A prompt of digits, and the ids of its nodes that speak."""
    g = Graph()
    digits = g.GuidanceKitLoadDigitsDemo()
    combined = cfg_combine(g, digits, scale)
    null = g.GuidanceKitNullConditionEncoder(kind={"kind": "class null label"}, model=combined)
    latent = ksampler(g, combined, positive=null, negative=null, latent=digits.slot(3), seed=seed)
    g.ProbeRead(latent=latent, nonce=0)
    return g, {"null": null.node, "combine": combined.node}


@pytest.fixture(scope="module")
def first(server):
    """A workflow that has run, its texts by what their nodes do."""
    g, nodes = sampling(SCALE, seed=1)
    said = run(server, "first", g)
    return {name: said[node] for name, node in nodes.items()}


def test_another_workflow_says_what_its_results_were_made_with(server, first):
    """The null condition comes from the first run; the sampler's words are this run's own."""
    g, nodes = sampling(SCALE, seed=2)
    said = run(server, "second", g)
    assert first["null"] and said == {nodes[name]: text for name, text in first.items()}


def test_words_of_a_run_go_with_that_run_alone(server, first):
    """CFG Combine is the same node here as there, and nothing samples through it here."""
    g, nodes = sampling(SCALE, seed=1)
    g.prompt["4"]["inputs"]["model"] = ["1", 0]
    assert run(server, "third", g) == {nodes["null"]: first["null"]}


def test_a_run_that_is_cached_as_a_whole_says_all(server, first):
    g, nodes = sampling(SCALE, seed=1)
    assert run(server, "fourth", g) == {nodes[name]: text for name, text in first.items()}


def test_a_node_that_is_set_otherwise_says_what_was_said_with_that(server, first):
    """Set to what another workflow has run, it says what was said there, and no longer its own of before."""
    g, nodes = sampling(1.0, seed=1)
    assert run(server, "fifth", g)[nodes["combine"]] != first["combine"]
    run(server, "sixth", sampling(SCALE, seed=1)[0])
    g, nodes = sampling(SCALE, seed=1)
    assert run(server, "fifth", g)[nodes["combine"]] == first["combine"]
