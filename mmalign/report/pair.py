"""A preference pair for the terminal: prompt, both sides with their spans, tokens, lineage."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mmalign.records import MediaRef, PreferencePair
from mmalign.records.spans import differing_spans
from mmalign.report.cards import cut_at_spans, lineage_facts
from mmalign.report.clips import describe_operation
from mmalign.report.matrix import matrix_of, render_matrix

__all__ = ["PairTokens", "render_pair"]

_PHRASE_COLORS = ("magenta", "yellow", "cyan", "red", "green", "blue")
_CHOSEN, _REJECTED = "blue", "dark_orange3"


@dataclass(frozen=True)
class PairTokens:
    """Both responses as the model's tokens."""

    chosen: Sequence[str]
    chosen_phrase_ids: Sequence[int]
    """Per token; 0 carries no reward, others join the phrases of both sides."""
    rejected: Sequence[str]
    rejected_phrase_ids: Sequence[int]


def render_pair(pair: PreferencePair, tokens: PairTokens | None = None) -> RenderableType:
    """The pair as `mmalign show pair` prints it; equal colours and numbers stand for each other.

    Args:
        pair: With stored spans, or without: then the texts are compared.
        tokens: Adds a line per side with every token, those that carry reward marked.
    """
    chosen_spans, rejected_spans = pair.chosen.spans, pair.rejected.spans
    found = not chosen_spans and not rejected_spans
    if found:
        chosen_spans, rejected_spans = differing_spans(pair.chosen.text, pair.rejected.text)
    parts: list[RenderableType] = []
    for message in pair.prompt:
        parts.append(Text.assemble((f"{message.role}  ", "dim"), (message.text.strip(), "bold")))
        parts += [_media_line(ref) for ref in message.media]
    sides = (
        ("chosen", _CHOSEN, pair.chosen, chosen_spans),
        ("rejected", _REJECTED, pair.rejected, rejected_spans),
    )
    for name, color, response, spans in sides:
        body: list[RenderableType] = [
            _marked([(piece.text, piece.phrase_id) for piece in cut_at_spans(response.text, spans)])
        ]
        body += [_media_line(ref) for ref in response.media or ()]
        if tokens is not None:
            body.append(_token_line(name, tokens))
        score = "" if response.score is None else f", score {response.score:.3g}"
        title = f"[{color}]{name}[/]{score}"
        parts.append(Panel(Group(*body), title=title, title_align="left", border_style=color))
    if found and (chosen_spans or rejected_spans):
        parts.append(Text("no spans are stored; the marked ones come from a diff", style="dim"))
    if (matrix := matrix_of(pair.metadata)) is not None:
        parts.append(render_matrix(matrix))
    parts.append(_facts_table(pair))
    return Group(*parts)


def _media_line(ref: MediaRef) -> Text:
    line = Text(f"  {ref.kind}  {_shortened(ref.uri)}", style="dim")
    if ref.start_s is not None or ref.end_s is not None:
        line.append(f"  {ref.start_s or 0:g} s to {'end' if ref.end_s is None else ref.end_s}")
    for operation in ref.operations:
        line.append(f"  {describe_operation(operation)}", style="italic")
    return line


def _shortened(uri: str) -> str:
    return f"{uri.partition(',')[0]},…" if uri.startswith("data:") else uri


def _marked(pieces: Sequence[tuple[str, int]]) -> Text:
    line = Text()
    for text, phrase_id in pieces:
        line.append(text, style=_style(phrase_id))
        if phrase_id:
            line.append(f"[{phrase_id}]", style=f"dim {_color(phrase_id)}")
    return line


def _token_line(name: str, tokens: PairTokens) -> Text:
    texts, phrase_ids = (
        (tokens.chosen, tokens.chosen_phrase_ids)
        if name == "chosen"
        else (tokens.rejected, tokens.rejected_phrase_ids)
    )
    num_marked = sum(phrase_id > 0 for phrase_id in phrase_ids)
    line = Text.assemble((f"{num_marked} of {len(texts)} tokens carry reward\n", "dim"))
    for text, phrase_id in zip(texts, phrase_ids, strict=True):
        shown = text.replace("\n", "⏎").replace(" ", "·")
        line.append(shown, style=f"reverse {_color(phrase_id)}" if phrase_id else "")
        line.append("|", style="dim")
    return line


def _style(phrase_id: int) -> str:
    return f"bold underline {_color(phrase_id)}" if phrase_id else ""


def _color(phrase_id: int) -> str:
    return _PHRASE_COLORS[(phrase_id - 1) % len(_PHRASE_COLORS)]


def _facts_table(pair: PreferencePair) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for label, value in lineage_facts(pair):
        table.add_row(label, Text(value))
    for key, value in pair.lineage.tags.items():
        table.add_row(key.replace("_", " "), Text(value))
    return table
