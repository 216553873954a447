"""What a run costs: seconds an epoch, the price of a penalty, framework time, start-up and memory.

    python scripts/bench.py [epoch] [tuned] [penalty] [framework] [help] [memory]     all of them if none is named

``models=mfn,tfn`` and ``penalties=kl,club`` measure these only. Times are medians over repetitions in one process on one thread
(``threads=2`` for two), of the CPU's seconds where there is one thread: a busy machine disturbs these less than the clock's, though
not little. Quote ratios rather than seconds. Prints Markdown, and writes all figures in units of a loop that is timed beside them
to ``out=outputs/bench.json``; what differs from docs/bench.json, where figures were kept, is said at the end.
"""

import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from statistics import median

import pytorch_lightning as pl
import torch
from _bench import Figures, mosi_shaped, unaligned
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from mdm.boundary import exit_on_error
from mdm.data.base import Segments
from mdm.data.splits import Splits
from mdm.data.store import open_store
from mdm.data.writing import write_store
from mdm.hints import require_known
from mdm.runs.build import build_factory, build_learner, build_splits
from mdm.runs.remarks import silence_remarks
from mdm.seeds import derive
from mdm.study import MOST_JOBS

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = {p.stem: OmegaConf.load(p) for p in sorted((ROOT / "configs" / "model").glob("*.yaml"))}
MODELS = [name for name, node in CONFIGS.items() if "backbone" in node and "images" not in node.backbone]
"""Of segments shaped like MOSI's."""
PENALTIES = sorted(p.stem for p in (ROOT / "configs" / "penalty").glob("*.yaml") if p.stem not in ("none", "sum"))
SOURCES = ("fresh", "shared", "replay")


def now() -> float:
    """Seconds of the CPU on one thread, else of the clock."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("train", list(overrides))


def epoch_seconds(cfg: DictConfig, splits: Splits, epochs: int = 3, batches: int | None = None) -> float:
    """Median seconds of a training epoch in Lightning, the first left out; from so many batches if given."""
    learner = build_learner(cfg, splits)
    clock: list[float] = []

    class Clock(pl.Callback):
        def on_train_epoch_start(self, *_: object) -> None:
            self.start = now()

        def on_train_batch_end(self, *_: object) -> None:
            self.end = now()

        def on_validation_start(self, *_: object) -> None:
            clock.append(self.end - self.start)

    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs + 1,
        callbacks=[Clock()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        limit_train_batches=batches,
    )
    trainer.fit(learner, splits.train(), splits.valid())
    return median(clock[1:]) * (1 if batches is None else len(splits.train()) / batches)


def bare_seconds(cfg: DictConfig, splits: Splits, epochs: int = 3) -> float:
    """The same epochs in a loop of a few lines, over the same loader."""
    backbone = build_learner(cfg, splits).backbone
    optimizer = build_factory(cfg.model.optimizer)(backbone.parameters())
    loader, clock = splits.train(), []
    for epoch in range(epochs + 1):
        torch.manual_seed(derive(0, "dropout", epoch))
        loader.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]
        start = now()
        for batch in loader:
            encoded = backbone.encode(batch)
            fusion = backbone.fuse(encoded)
            loss = (fusion.prediction - batch.label).abs().mean()
            loss = loss + sum(backbone.own_terms(batch, encoded, fusion).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        clock.append(now() - start)
    return median(clock[1:])


def splits_of(cfg: DictConfig, segments: Segments | None = None) -> Splits:
    return build_splits(cfg) if segments is None else Splits(segments, batch_size=32, text="vectors", scale="none")


def bench_epoch(figures: Figures) -> None:
    """Every backbone on the synthetic default."""
    print("\n### Seconds a training epoch (synthetic default, 1284 segments, batch 32)\n")
    print("| model | seconds |\n|---|---|")
    for model in MODELS:
        cfg = composed(f"model={model}")
        print(f"| {model} | {figures.note(f'epoch/{model}', epoch_seconds(cfg, splits_of(cfg))):.2f} |", flush=True)


def bench_tuned(figures: Figures) -> None:
    """Every backbone at MMSA's tuned sizes for MOSI, batch 32; those with a transformer at BERT-base's size, from one step."""
    print("\n### Seconds a training epoch at MMSA's tuned sizes (1284 segments of 50 steps, 768/5/20, batch 32)\n")
    print("| model | parameters, M | seconds |\n|---|---|---|")
    vectors, pieces = mosi_shaped(), mosi_shaped(steps=48, tokens=True)  # and two special pieces
    tuned = {p.stem for p in (ROOT / "configs" / "tuned" / "mmsa" / "mosi").glob("*.yaml")}
    for model in MODELS:
        sizes = [f"tuned=mmsa/mosi/{model}"] if model in tuned else [f"model={model}"]
        cfg = composed(*sizes)
        base = "text_encoder" in cfg.model.backbone
        if base:
            cfg.model.backbone.text_encoder = "base"
        splits = Splits(pieces if base else vectors, batch_size=32, text="tokens" if base else "vectors", scale="none")
        parameters = sum(p.numel() for p in build_learner(cfg, splits).backbone.parameters()) / 1e6
        seconds = epoch_seconds(cfg, splits, epochs=1, batches=1) if base else epoch_seconds(cfg, splits)
        print(f"| {model} | {parameters:.2f} | {figures.note(f'tuned/{model}', seconds):.1f} |", flush=True)


def bench_penalty(figures: Figures) -> None:
    """Every backbone × penalty as its config has it; those with samples of the product by every source of critic batches."""
    print("\n### Training time of each penalty, relative to none\n")
    ratios(figures, {penalty: [f"penalty={penalty}"] for penalty in PENALTIES})
    by_source = [p for p in ("kl", "wasserstein") if p in PENALTIES]
    if by_source:
        print("\n### The same by penalty.critic.batches\n")
        ratios(figures, {f"{p} {s}": [f"penalty={p}", f"penalty.critic.batches={s}"] for p in by_source for s in SOURCES})


def ratios(figures: Figures, columns: dict[str, list[str]]) -> None:
    """A table of models × overrides: time of an epoch over that without penalty, all of them in turn, three times."""
    print("| model | " + " | ".join(columns) + " |\n|---" + "|---" * len(columns) + "|")
    for model in MODELS:
        arms = {"none": composed(f"model={model}")}
        arms |= {name: composed(f"model={model}", *overrides) for name, overrides in columns.items()}
        splits = splits_of(arms["none"])
        built = {name: cfg for name, cfg in arms.items() if is_built(cfg, splits)}
        rounds = [{name: epoch_seconds(cfg, splits, 1) for name, cfg in built.items()} for _ in range(3)]
        for name in built:
            figures.note(f"penalty/{model}/{name}", median(r[name] for r in rounds))
        cells = [f"{median(r[name] / r['none'] for r in rounds):.2f}" if name in built else "–" for name in columns]
        print(f"| {model} | " + " | ".join(cells) + " |", flush=True)


def is_built(cfg: DictConfig, splits: Splits) -> bool:
    """Whether this model takes this penalty."""
    try:
        build_learner(cfg, splits)
    except ValueError:
        return False
    return True


def bench_framework(figures: Figures) -> None:
    """Lightning + learner against the bare loop, in turn, five times."""
    print("\n### Time per step, framework against bare loop\n")
    print("| model, data | framework ms | bare ms | ratio |\n|---|---|---|---|")
    wide = mosi_shaped()
    for model in [m for m in MODELS if "text_encoder" not in composed(f"model={m}").model.backbone]:
        cfg = composed(f"model={model}")
        for name, segments in (("synthetic", None), ("768/5/20 × 50", wide)):
            splits = splits_of(cfg, segments)
            pairs = [(epoch_seconds(cfg, splits, 1), bare_seconds(cfg, splits, 1)) for _ in range(5)]
            steps = len(splits.train())
            framework, bare = (1000 * median(p[i] for p in pairs) / steps for i in (0, 1))
            figures.note(f"step/{model}, {name}", framework / 1000)
            print(f"| {model}, {name} | {framework:.2f} | {bare:.2f} | {median(a / b for a, b in pairs):.3f} |", flush=True)


def bench_help(figures: Figures) -> None:
    """Start-up of the command line."""
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, str(ROOT / "train.py"), "--help"], check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    print(f"\n### `python train.py --help`\n\n{figures.note('help', median(seconds)):.2f} s (median of 5)")


MEMORY = """
import re, sys
import numpy as np
from mdm.data.splits import Splits
from mdm.data.store import open_store
splits = Splits(open_store(sys.argv[1]), text="vectors", scale="standard")
for batch in splits.train():
    pass
# Not ru_maxrss: that begins at what the parent process had.
print(int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024)
"""


def bench_memory(figures: Figures) -> None:
    """Peak memory of one pass over a store of MOSEI's size (16,326 training segments, 500 audio steps of 74) and of MOSI's."""
    print("\n### Peak memory of scaling and one epoch of reading, a process each\n")
    print("| store | training segments | GiB on disk | open, s | peak MiB |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, n in (("MOSI-sized", 1284), ("MOSEI-sized", 16326)):
            path = write_store(unaligned(n), Path(folder) / name)
            disk = sum(f.stat().st_size for f in path.iterdir()) / 2**30
            start = time.perf_counter()
            open_store(path)
            opened = figures.note(f"open/{name}", time.perf_counter() - start)
            done = subprocess.run([sys.executable, "-c", MEMORY, str(path)], check=True, capture_output=True, text=True)
            print(f"| {name} | {n} | {disk:.2f} | {opened:.2f} | {float(done.stdout):.0f} |", flush=True)


def main(arguments: list[str]) -> None:
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return
    warnings.filterwarnings("ignore")
    silence_remarks()
    options = dict(a.split("=", 1) for a in arguments if "=" in a)
    require_known("", options, ("threads", "models", "penalties", "out"), "bench.py")
    threads = options.get("threads", "1")
    if not (threads.isascii() and threads.isdecimal() and 1 <= int(threads[:6]) <= MOST_JOBS):
        raise ValueError(f"threads is a whole number, 1 to {MOST_JOBS}, got threads={threads}; correct it.")
    measures = (bench_epoch, bench_tuned, bench_penalty, bench_framework, bench_help, bench_memory)
    parts = {measure.__name__.removeprefix("bench_"): measure for measure in measures}
    chosen = [a for a in arguments if "=" not in a] or list(parts)
    unknown = [a for a in chosen if a not in parts]
    if unknown:
        raise ValueError(f"bench.py measures {', '.join(parts)}, but {', '.join(unknown)} was asked for; name some of these.")
    for name, known in (("models", MODELS), ("penalties", PENALTIES)):
        wanted = options.get(name, ",".join(known)).split(",")
        if not set(wanted) <= set(known):
            raise ValueError(f"bench.py knows the {name} {', '.join(known)}, got {', '.join(wanted)}; name some of these.")
        known[:] = wanted
    torch.set_num_threads(int(threads))
    print(f"torch {torch.__version__}, {threads} thread(s), {torch.get_num_interop_threads()} inter-op")
    figures = Figures(now)
    for part in chosen:
        parts[part](figures)
    print(f"\n{figures.write(Path(options.get('out', 'outputs/bench.json')), ROOT / 'docs' / 'bench.json')}")


if __name__ == "__main__":
    with exit_on_error():
        main(sys.argv[1:])
