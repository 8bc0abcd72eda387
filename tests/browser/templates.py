"""The front end's template browser, used as README says."""

from playwright.sync_api import Locator, Page

from devtools import frontend
from devtools.host import PACK_NAME
from devtools.workflows import DIGITS, graphs_of, place

EXAMPLES = [place(name, DIGITS) for name in graphs_of(DIGITS)]  # in the order in which they are listed
OPEN = """
([name, count]) =>
  app.extensionManager.workflow.activeWorkflow.filename.startsWith(name) && app.graph.nodes.length === count
"""


def browse(page: Page) -> Locator:
    """Open the template browser at our pack, and give its dialog."""
    page.get_by_role("button", name="Templates", exact=True).click()
    dialog = page.get_by_role("dialog")
    frontend.again(
        lambda timeout: dialog.get_by_text(PACK_NAME, exact=True).click(timeout=timeout),
        lambda timeout: dialog.get_by_test_id(f"template-workflow-{EXAMPLES[0].stem}").wait_for(timeout=timeout),
    )
    return dialog


def choose(dialog: Locator, name: str) -> None:
    """Search for a template, so that few cards are drawn, and click it, which closes the dialog."""

    def pick(timeout: int) -> None:
        dialog.locator("input").first.fill(name, timeout=timeout)
        dialog.get_by_test_id(f"template-workflow-{name}").click(timeout=timeout)

    frontend.again(pick, lambda timeout: dialog.wait_for(state="hidden", timeout=timeout))


def opened(page: Page, name: str, count: int) -> None:
    """Open a template as README says, and wait for its nodes."""
    choose(browse(page), name)
    page.wait_for_function(OPEN, arg=[name, count])
