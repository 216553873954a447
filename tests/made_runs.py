"""What tests of runs read of a record."""

import csv

from mdm.runs.naming import record_folder


def folder_of(cfg, overrides=()):
    return record_folder(cfg, overrides)


def table(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def comparable(record):
    """A record without what depends on the clock."""
    return {key: value for key, value in record.items() if key != "seconds"}
