"""The default ``stratagem fit`` on seeds 0-4: figures of each, their median and worst.

Each seed is a real run of the command in a process of its own, one after the other; wall-clock seconds include
everything from the start of the interpreter on.

    python benchmarks/recovery.py --out runs/recovery
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

FIGURES = {
    "meaning/alignment": max,
    "meaning/alignment_greedy": max,
    "meaning/alignment_chance": max,
    "meaning/purity": max,
    "meaning/posterior_accuracy": max,
    "meaning/posterior_accuracy_amortized": max,
    "meaning/nuisance_ami": min,
    "meaning/per_prompt_gap": min,
    "fidelity/kl_per_token": min,
    "fidelity/kl_per_token_se": min,
    "use/mutual_information": max,
    "skill/accuracy_base": max,
    "skill/accuracy": max,
    "skill/accuracy_forced_min": max,
    "seconds": min,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/recovery"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("overrides", nargs="*", help="further settings of stratagem fit")
    args = parser.parse_args()
    runs = [fit(args.out / f"seed{seed}", seed, args.overrides) for seed in args.seeds]
    print(f"| figure | {' | '.join(f'seed {s}' for s in args.seeds)} | median | worst |")
    print(f"|---|{'---|' * (len(runs) + 2)}")
    for name, better in FIGURES.items():
        values = [run[name] for run in runs]
        worst = min(values) if better is max else max(values)
        cells = [*values, statistics.median(values), worst]
        print(f"| {name} | {' | '.join(f'{v:.4g}' for v in cells)} |")


def fit(folder: Path, seed: int, overrides: list[str]) -> dict[str, float]:
    """One run, or the figures of one that is there."""
    done = folder / "seconds"
    if not done.is_file():
        began = time.perf_counter()
        command = [sys.executable, "-c", "from stratagem.inference.commands import main; main()", "fit"]
        subprocess.run(
            [*command, f"run={folder}", f"seed={seed}", "fit.progress=false", *overrides], check=True
        )
        done.write_text(str(time.perf_counter() - began))
    return json.loads((folder / "evaluation.json").read_text()) | {"seconds": float(done.read_text())}


if __name__ == "__main__":
    main()
