"""Writing a run as a model: one folder with its card, and its weights or an ONNX graph.

FOLDER/model.json                            the card: nets, rule, competition, score
FOLDER/folds/<seed>-<fold>/                  the weights of a net, and their hash
FOLDER/model.onnx                            or one graph, instead of weights
"""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from hbcomp.experiment import manifest
from hbcomp.serving.card import CARD, REPORT, Card, Fold, find_model, read_card
from hbcomp.serving.model import GRAPH
from hbcomp.serving.nets import WEIGHTS, Ensemble, folder_of, load_nets
from hbcomp.system.errors import InputError
from hbcomp.system.files import write_text
from hbcomp.system.memory import in_words

# The sections of the configuration that a net is built from.
SECTIONS: Final = {"signals", "features", "net"}


def export_run(
    run: str, to: Path, console: Console, *, as_onnx: bool, fold: Fold | None, force: bool
) -> dict[str, Any]:
    """Write a finished run's model into a folder of its own, atomically, and return its numbers.

    A folder that is there already is an InputError, unless it is an exported model and `force`.
    """
    folder = find_model(run)
    if not (folder / REPORT).exists():
        raise InputError(f"{run}: is an exported model already; name a finished run")
    if to.exists() and not (force and (to / CARD).exists()):
        raise InputError(f"{to}: exists; choose another folder, or replace a model with --force")
    card = read_card(folder, fold)
    used = {name: values for name, values in card.config.items() if name in SECTIONS}
    card = card.model_copy(update={"config": used})
    nets = load_nets(folder, card)
    to.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(suffix=".partial", prefix=".", dir=to.parent))
    try:
        if as_onnx:
            from hbcomp.serving.onnx_graph import write_graph

            write_graph(partial / GRAPH, Ensemble(nets), card)
        else:
            _copy_weights(folder, partial, card)
        values = card.model_dump(mode="json", exclude_none=True)
        write_text(partial / CARD, json.dumps(values, indent=2) + "\n")
        partial.chmod(0o755)
        if to.exists():
            shutil.rmtree(to)
        partial.rename(to)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    n_bytes = sum(path.stat().st_size for path in to.rglob("*") if path.is_file())
    console.print(f"{to}: {len(nets)} nets, {in_words(n_bytes)}; hbcomp.load({str(to)!r})")
    return {"experiment": card.experiment, "folder": str(to), "n_nets": len(nets), "bytes": n_bytes}


def _copy_weights(folder: Path, to: Path, card: Card) -> None:
    for net in card.nets:
        place = to / folder_of(net)
        place.mkdir(parents=True)
        shutil.copyfile(folder / folder_of(net) / WEIGHTS, place / WEIGHTS)
        manifest.write_manifest(place, [WEIGHTS])
