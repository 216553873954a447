"""After the tables, studies: PICK ONE of what finished runs can be asked, each a class with a measure, a summary and a figure.

    measure(run)      → rows of numbers, by table; each table becomes a CSV
    summary(frames)   → what all runs come to, in Markdown
    figure(frames)    → the same as a picture

An experiment says in its section ``study`` which one it is for, by its ``_target_``; `mdm study` makes it. A study of
another package is declared by an entry point of ``mdm.members``, as every member is (`mdm.runs.members`).
"""

from mdm.studies._base import Frames, Rows, Study, StudyRun, Tables

__all__ = ["Frames", "Rows", "Study", "StudyRun", "Tables"]
