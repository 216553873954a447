"""The rows of a table, one by one or as the product of systems and variants.

    table:
      product:
        systems:
          lfn: {label: LFN, run: [model=lmf], tuned: {mosi: mmsa/mosi/lmf}, paper: {model: LFN}}
          mfn: {label: MFN, run: [model=mfn], paper: {model: MFN}, variants: [none, kl]}     # all where it does not say
        variants:
          none: {run: [penalty=none], paper: {penalty_or_variant: none}}                     # the baseline of the others
          kl: {label: + L_kl, run: [penalty=kl], paper: {penalty_or_variant: kl}}
          f: {label: + L_f, run: [penalty=f], paper: {penalty_or_variant: f}}
      rows: …                                                                                # further ones, after these

has the rows ``lfn``, ``lfn_kl``, ``lfn_f``, ``mfn`` and ``mfn_kl``. The first variant's row has the system's name and label, the
others the variant's label. A system that is alone may be called "": its rows are ``none``, ``kl`` and ``f``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mdm.hints import require_option


@dataclass(frozen=True)
class Row:
    """A line of a table.

    label: as it is printed; paper: the keys of its values in the paper, none if it prints none; note: a remark under the table
    run: overrides of its runs; None for a system that is not built here
    tuned: data config → file under configs/tuned
    baseline: the row that it is tested against; ``only``: the data configs or the paper's data sets that it exists for, all if None
    """

    name: str
    label: str
    run: tuple[str, ...] | None = None
    tuned: Mapping[str, str] = field(default_factory=dict)
    baseline: str | None = None
    only: tuple[str, ...] | None = None
    paper: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    def runs_on(self, data: str, stands_for: str) -> bool:
        return self.run is not None and (self.only is None or bool({data, stands_for} & set(self.only)))


@dataclass(frozen=True)
class DeclaredRow:
    """A row as an experiment file has it; `Row` says what its keys are."""

    label: str
    run: Sequence[str] | None = None
    tuned: Mapping[str, str] | None = None
    baseline: str | None = None
    only: Sequence[str] | None = None
    paper: Mapping[str, str | int] | None = None
    note: str | None = None


@dataclass(frozen=True)
class DeclaredSystem:
    """What the rows of a system share; ``variants``: those that it has, all if None."""

    label: str
    run: Sequence[str]
    tuned: Mapping[str, str] | None = None
    only: Sequence[str] | None = None
    paper: Mapping[str, str | int] | None = None
    note: str | None = None
    variants: Sequence[str] | None = None


@dataclass(frozen=True)
class DeclaredVariant:
    """What a variant adds to a system; the first one's label is the system's."""

    run: Sequence[str]
    label: str | None = None
    paper: Mapping[str, str | int] | None = None
    note: str | None = None


@dataclass(frozen=True)
class DeclaredProduct:
    """The section ``table.product``, see the module's docstring."""

    systems: Mapping[str, DeclaredSystem]
    variants: Mapping[str, DeclaredVariant]


def parse_rows(table: Mapping[str, Any]) -> dict[str, Row]:
    """The rows of a section ``table`` that keeps its declaration: those of the product, then those that are declared one by one.

    Raises ValueError, naming the key, if two have one name, a row is neither a run nor in the paper, or a product does not fit
    together.
    """
    declared = table.get("rows") or {}
    expanded = expand_product(table["product"]) if table.get("product") else {}
    twice = sorted(expanded.keys() & declared.keys())
    if twice:
        raise ValueError(f"Each row has a name of its own, but table.product and table.rows both have {', '.join(twice)}; rename.")
    return {name: parse_row(name, keys) for name, keys in {**expanded, **declared}.items()}


def expand_product(product: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows of a product as they would stand in ``table.rows``, system by system in the order of the variants.

    Raises ValueError, naming the key, without a system or a variant, on a variant that is not there or has no label, on a system
    without the first variant, and if two rows have one name.
    """
    systems, variants = product["systems"], product["variants"]
    if not systems or not variants:
        raise ValueError(
            f"table.product: expected a system and a variant at least, got {len(systems)} and {len(variants)}; name them, or use "
            "table.rows."
        )
    first = next(iter(variants))
    rows: dict[str, dict[str, Any]] = {}
    for system, shared in systems.items():
        chosen = list(variants) if shared.get("variants") is None else shared["variants"]
        for variant in chosen:
            require_option(f"table.product.systems.{system}.variants", variant, variants)
        if first not in chosen:
            raise ValueError(
                f"table.product.systems.{system}.variants: expected {first} among them, the baseline of the others, got "
                f"{', '.join(chosen) or 'none'}; add it."
            )
        for variant in [each for each in variants if each in chosen]:
            name, row = name_row(system, variant, first), join_parts(shared, variants[variant])
            if variant != first:
                if not variants[variant].get("label"):
                    raise ValueError(f"table.product.variants.{variant}: expected a label, got none; only {first} needs none.")
                row |= {"label": variants[variant]["label"], "baseline": name_row(system, first, first)}
            if name in rows:
                raise ValueError(f"Each row has a name of its own, but table.product makes {name} twice; rename a part of it.")
            rows[name] = row
    return rows


def name_row(system: str, variant: str, first: str) -> str:
    if not system:
        return variant
    return system if variant == first else f"{system}_{variant}"


def join_parts(system: Mapping[str, Any], variant: Mapping[str, Any]) -> dict[str, Any]:
    """A row under the system's label: the runs' overrides one after the other, the keys in the paper of both, both remarks."""
    row = {key: system[key] for key in ("label", "tuned", "only") if system.get(key) is not None}
    paper = {**(system.get("paper") or {}), **(variant.get("paper") or {})}
    note = " ".join(part["note"] for part in (system, variant) if part.get("note"))
    return row | {"run": [*system["run"], *variant["run"]]} | ({"paper": paper} if paper else {}) | ({"note": note} if note else {})


def parse_row(name: str, keys: Mapping[str, Any]) -> Row:
    """One row of ``table.rows``."""
    if keys.get("run") is None and keys.get("paper") is None:
        raise ValueError(
            f"A row is a run or a value that the paper prints, or both, but table.rows.{name} has neither; give it run or paper."
        )
    lists = {key: tuple(str(value) for value in keys[key]) for key in ("run", "only") if keys.get(key) is not None}
    return Row(name=name, **{**{key: value for key, value in keys.items() if value is not None}, **lists})
