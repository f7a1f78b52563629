"""The rollouts of a training run, step by step, as a page."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from mmalign.report.review.guard import Guard
from mmalign.report.review.pages import templates
from mmalign.report.review.static import static_file
from mmalign.report.rollouts import read_rollouts, steps_of, token_texts, view_rollouts

__all__ = ["RolloutPages", "guarded_rollouts"]


def guarded_rollouts(pages: "RolloutPages", *, token: str, port: int) -> ASGIApp:
    """The page alone, for a run that built no pairs."""
    routes = [Route("/", pages.page), Route("/static/{name}", static_file)]
    return Guard(Starlette(routes=routes), token=token, port=port)


class RolloutPages:
    """The page of one run's rollouts.

    Args:
        run_folder: What `mmalign run` or `mmalign train` wrote.
    """

    def __init__(self, run_folder: Path) -> None:
        self._run_folder = run_folder
        self._template = templates().get_template("rollouts.html.jinja")

    @property
    def has_rollouts(self) -> bool:
        """Whether there is anything to show."""
        return bool(steps_of(self._run_folder / "train"))

    def page(self, request: Request) -> Response:
        """The groups of the step that the address names; of the last one where it names none."""
        folder = self._run_folder / "train"
        steps = steps_of(folder)
        asked = request.query_params.get("step", str(steps[-1]) if steps else "")
        if not asked.isdecimal() or int(asked) not in steps:
            raise HTTPException(404, f"there are no rollouts of step {asked!r}")
        problems: list[str] = []
        rollouts = read_rollouts(folder, int(asked), problems)
        content = self._template.render(
            run=self._run_folder.resolve().name,
            steps=steps,
            step=int(asked),
            problems=problems,
            groups=view_rollouts(rollouts, int(asked), token_texts(folder)),
        )
        return HTMLResponse(content)
