"""The verbs on models."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from medtune.cli.arguments import Json
from medtune.config.trial import MODELS, ModelConfig

model_app = typer.Typer(no_args_is_help=True, help="The models.")


@model_app.callback()
def models() -> None:
    """The models."""


@model_app.command()
def info(
    name: Annotated[str, typer.Argument(help="a model, as a sweep file names it", show_default=False)],
    size: Annotated[int, typer.Option(min=8, max=1024, help="pixels a side")] = 28,
    channels: Annotated[int, typer.Option(min=1, max=3, help="1 in greyscale, 3 in colour")] = 3,
    classes: Annotated[int, typer.Option(min=2)] = 9,
    graph: Annotated[Path | None, typer.Option(help="a .svg or .png file to draw the network into")] = None,
    json: Json = False,
) -> None:
    """What a model consists of: its layers, as model.finetune names them, shapes, parameters, and a picture."""
    config = _config(name)
    _check_graph(graph)
    from medtune.cli.text import print_json
    from medtune.models.describe import describe

    found = describe(config, channels, classes, size)
    if graph is not None:
        _draw(config, channels, classes, size, graph)
    title = f"{name} at {size} px, {'greyscale' if channels == 1 else 'colour'}, {classes} classes"
    print("\n".join([title, *_lines(found, graph)]), file=sys.stderr if json else sys.stdout)
    if json:
        print_json({"model": name, "size": size, "channels": channels, "classes": classes, **_values(found)})


@model_app.command()
def export(
    model: Annotated[
        str,
        typer.Argument(help="a folder such as runs/NAME/retrain/model, or models:/NAME@champion", show_default=False),
    ],
    out: Annotated[Path, typer.Option(help="the file")] = Path("model.onnx"),
    tracking_uri: Annotated[str | None, typer.Option(help="where models:/ is: an address, or a folder")] = None,
    json: Json = False,
) -> None:
    """Write a trained model as ONNX: bytes of images in, calibrated probabilities out, all members in one graph."""
    from medtune.cli.text import say, show
    from medtune.data import DataError
    from medtune.trained.model import TrainedModel
    from medtune.trained.onnx import ExportError
    from medtune.trained.onnx import export as export_graph

    if not out.absolute().parent.is_dir():
        raise DataError(f"--out {out}: there is no folder {out.parent}")
    trained = TrainedModel.load(model_folder(model, tracking_uri))
    if any(member.precision != "float32" for member in trained.members):
        say("a network of it runs in bfloat16 in `predict`; in the graph all run in float32")
    try:
        made = export_graph(trained, out)
    except ExportError as error:
        say(str(error))
        raise typer.Exit(1) from None
    shape = " x ".join(map(str, made.shape))
    lines = [
        f"graph    {out}",
        f"takes    images: uint8, cases x {shape}",
        f"gives    probabilities: float32, cases x {len(trained.classes)} ({', '.join(trained.classes)}), "
        f"after the calibrator ({trained.decided.calibrator.kind})",
        f"checked  ONNX Runtime and the model differ by {made.difference:.0e} at the most",
    ]
    result = {"graph": str(out), "shape": list(made.shape), "classes": list(trained.classes)}
    show(lines, {**result, "difference": made.difference}, json)


def model_folder(text: str, tracking_uri: str | None) -> Path:
    """The folder of a model that is given as such, or as an address of a registry. Raises DataError."""
    if not text.startswith("models:/"):
        return Path(text)
    from medtune.tracking.registry import fetch_model

    return fetch_model(text, tracking_uri)


def _config(name: str) -> ModelConfig:
    from pydantic import ValidationError

    from medtune.config.problems import nearest
    from medtune.data import DataError

    try:
        return ModelConfig(name=name)
    except ValidationError as error:
        meant = nearest(name, MODELS)
        hint = f"did you mean {meant}? " if meant else ""
        raise DataError(f"{name}: no such model; {hint}there are {', '.join(MODELS)}, and timm/NAME") from error


def _check_graph(graph: Path | None) -> None:
    from medtune.data import DataError

    if graph is not None and graph.suffix not in (".svg", ".png"):
        raise DataError(f"--graph {graph}: give a .svg or a .png file")
    if graph is not None and not graph.parent.is_dir():
        raise DataError(f"--graph {graph}: there is no folder {graph.parent}")


def _draw(config: ModelConfig, channels: int, classes: int, size: int, path: Path) -> None:
    from medtune.data import DataError
    from medtune.models.build import empty_model
    from medtune.models.drawing import draw_graph
    from medtune.models.graph import model_graph

    try:
        boxes = model_graph(empty_model(config, channels, classes, size).to("meta"), channels, size)
    except ValueError as error:
        raise DataError(f"{config.name}: {error}") from error
    draw_graph(boxes, f"{config.name}, {size} px", path)


def _lines(found: Any, graph: Path | None) -> list[str]:
    width = max(len(layer.name) for layer in found.layers)
    kinds = max(len(layer.kind) for layer in found.layers)
    lines = [f"{'layer':<{width}}  {'kind':<{kinds}}  {'output':<14} {'parameters':>12}"]
    for layer in found.layers:
        shape = " x ".join(map(str, layer.output))
        lines.append(f"{layer.name:<{width}}  {layer.kind:<{kinds}}  {shape:<14} {layer.parameters:>12,}")
    lines.append(
        f"in all    {found.parameters:,} parameters, {found.multiply_adds / 1e6:,.1f} million multiply-adds an image"
    )
    lines.append("finetune  all, head, {from: LAYER} or {LAYER: EPOCH}, with a layer before the head or one within it")
    return lines if graph is None else [*lines, f"graph     {graph}"]


def _values(found: Any) -> dict[str, Any]:
    layers = [
        {"name": one.name, "kind": one.kind, "output": list(one.output), "parameters": one.parameters}
        for one in found.layers
    ]
    finetune = [one.name for one in found.layers if one.name not in ("hidden", "head")]
    return {
        "layers": layers,
        "finetune": finetune,
        "parameters": found.parameters,
        "multiply_adds": found.multiply_adds,
    }
