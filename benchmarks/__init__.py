"""Side-by-side measurements against ComfyUI itself and against peers. `python dev.py bench` runs them.

Every module named in GROUPS has TITLE, INTRO and `entries(quick)`, which yields a Row for each figure, a string for
each paragraph and a Picture for each picture, as soon as it is known.
"""

GROUPS = (
    "host_overhead",
    "passes",
    "classifier_cost",
    "clean_cost",
    "gradient_reuse",
    "samplers",
    "scaling",
    "training",
    "shards",
    "pipeline",
    "start_up",
)
