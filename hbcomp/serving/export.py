"""Writing a run or a blend as a model: one folder with its card, and its weights or a graph.

FOLDER/model.json                            the card: nets, rule, competition, score
FOLDER/folds/<seed>-<fold>/                  the weights of a net, and their hash
FOLDER/references.safetensors                the training rows that its features are measured from
FOLDER/model.onnx                            or one graph, instead of weights
FOLDER/base_models/<name>/                   of a blend: each base model as such a folder
"""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from hbcomp.experiment import manifest
from hbcomp.serving.card import (
    BASE_MODELS,
    CARD,
    REPORT,
    Card,
    Fold,
    find_model,
    folders_of_base,
    read_card,
)
from hbcomp.serving.model import GRAPH
from hbcomp.serving.nets import WEIGHTS, Ensemble, are_described, folder_of, load_nets
from hbcomp.serving.references import load_references, write_references
from hbcomp.system.errors import InputError
from hbcomp.system.files import write_text
from hbcomp.system.memory import in_words

# The sections of the configuration that a net is built from.
SECTIONS: Final = {"signals", "features", "net"}


def export_run(
    run: str, to: Path, console: Console, *, as_onnx: bool, fold: Fold | None, force: bool
) -> dict[str, Any]:
    """Write the model of a run or a blend into a folder of its own, atomically; return its numbers.

    A folder that is there already is an InputError, unless it is an exported model and `force`.
    """
    folder = find_model(run)
    if not (folder / REPORT).exists():
        raise InputError(f"{run}: is an exported model already; name a finished run")
    if to.exists() and not (force and (to / CARD).exists()):
        raise InputError(f"{to}: exists; choose another folder, or replace a model with --force")
    card = read_card(folder, fold)
    to.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(suffix=".partial", prefix=".", dir=to.parent))
    try:
        n_nets = _write(folder, partial, card, as_onnx=as_onnx)
        partial.chmod(0o755)
        if to.exists():
            shutil.rmtree(to)
        partial.rename(to)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    n_bytes = sum(path.stat().st_size for path in to.rglob("*") if path.is_file())
    console.print(f"{to}: {n_nets} nets, {in_words(n_bytes)}; hbcomp.load({str(to)!r})")
    return {"experiment": card.experiment, "folder": str(to), "n_nets": n_nets, "bytes": n_bytes}


def _write(folder: Path, to: Path, card: Card, *, as_onnx: bool) -> int:
    """Write the files of a model, and return how many nets it has."""
    to.mkdir(parents=True, exist_ok=True)
    if card.recipe:
        n_nets = 0
        for base in folders_of_base(folder, card.recipe):
            place = to / BASE_MODELS / base.name
            n_nets += _write(base, place, read_card(base), as_onnx=as_onnx)
    else:
        nets, n_nets = load_nets(folder, card), len(card.nets)  # damaged ones are refused
        if as_onnx:
            from hbcomp.serving.onnx_graph import write_graph

            write_graph(to / GRAPH, Ensemble(nets), card)
        else:
            _copy_weights(folder, to, card)
            if are_described(card):
                write_references(to, load_references(folder, card))
    used = {name: values for name, values in card.config.items() if name in SECTIONS}
    values = card.model_copy(update={"config": used}).model_dump(mode="json", exclude_none=True)
    write_text(to / CARD, json.dumps(values, indent=2) + "\n")
    return n_nets


def _copy_weights(folder: Path, to: Path, card: Card) -> None:
    for net in card.nets:
        place = to / folder_of(net)
        place.mkdir(parents=True)
        shutil.copyfile(folder / folder_of(net) / WEIGHTS, place / WEIGHTS)
        manifest.write_manifest(place, [WEIGHTS])
