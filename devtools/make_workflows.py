"""Writes the example workflows and blueprints, and runs those of bundled models for their thumbnails.

`python -m devtools.make_workflows`; `--graphs` writes the graphs without running them; names choose which are run.
"""

import argparse
import json
import sys

from devtools.server import ComfyServer, Result
from devtools.workflow import to_prompt
from devtools.workflows import EXAMPLES, Bundled, Family, draft, place
from devtools.workflows.blueprints import BLUEPRINTS, blueprint
from devtools.workflows.blueprints import FOLDER as SUBGRAPHS
from devtools.workflows.canvas import titled
from devtools.workflows.picture import row_names, squared, title_card

CURVES = ("cfg_schedules_side_by_side", "cfg_schedule_drawn_by_hand")  # shown in the thumbnail


def main() -> int:
    """Write every example, run those asked for, and keep their pictures."""
    bundled = {name: family for name, family in EXAMPLES if isinstance(family, Bundled)}
    parser = argparse.ArgumentParser(prog="python -m devtools.make_workflows", description=__doc__)
    parser.add_argument("--graphs", action="store_true", help="write the graphs only")
    parser.add_argument("names", nargs="*", choices=[[], *bundled], help="graphs to run; none named: all")
    asked = parser.parse_args()
    with ComfyServer() as server:
        object_info = server.object_info()
        for name, family in EXAMPLES:
            file = place(name, family)
            file.write_text(written(draft(name, family, object_info)), encoding="utf-8")
            if name not in bundled or bundled[name] is not family:
                title_card(family.title, titled(name)).save(file.with_suffix(".jpg"), quality=80)
        for name in BLUEPRINTS:
            (SUBGRAPHS / f"{name}.json").write_text(written(blueprint(name, object_info)), encoding="utf-8")
        for name in [] if asked.graphs else asked.names or bundled:
            _thumbnail(server, name, bundled[name], object_info)
    return 0


def written(workflow: dict) -> str:
    """A workflow as it stands in its file."""
    return json.dumps(workflow, indent=1) + "\n"


def _thumbnail(server: ComfyServer, name: str, family: Family, object_info: dict[str, dict]) -> None:
    workflow = draft(name, family, object_info)
    prompt = to_prompt(workflow, object_info)
    result = server.run(prompt)
    (saver,) = (node_id for node_id, node in prompt.items() if node["class_type"] == "SaveImage")
    (sheet,) = result.images(saver)
    rows = row_names(workflow)
    curves = [_curve(prompt, result, sampler) for sampler in rows] if name in CURVES else []
    picture = squared(sheet, list(rows.values()), curves)
    picture.save(place(name, family).with_suffix(".jpg"), quality=88)
    print(f"{name}: {result.seconds:.1f} s", flush=True)


def _curve(prompt: dict, result: Result, sampler: str):
    """The picture that the schedule behind a sampler drew of itself; None for a row without a schedule."""
    guided, _ = prompt[sampler]["inputs"]["model"]
    schedule, _ = prompt[guided]["inputs"].get("schedule", (None, 0))
    return result.images(schedule)[0] if schedule else None


if __name__ == "__main__":
    sys.exit(main())
