"""Style sheets and scripts of the pages."""

from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response

__all__ = ["static_file"]

_HERE = Path(__file__).parent
_FILES = {
    "matrix.js": (_HERE.parent / "matrix.js", "text/javascript"),
    "page.css": (_HERE.parent / "page.css", "text/css"),
    "view.css": (_HERE / "view.css", "text/css"),
    "view.js": (_HERE / "view.js", "text/javascript"),
}


def static_file(request: Request) -> Response:
    """One of the files that the pages name."""
    found = _FILES.get(request.path_params["name"])
    if found is None:
        raise HTTPException(404)
    return FileResponse(found[0], media_type=found[1])
