"""The last stage: an experiment's declaration and the records of its runs → its table beside the paper's printed values.

    gather      cells → what their runs left on disk; what may not stand in one table
    segments    predictions → a metric without each test video
    divergence  runs that do not count, told from validation
    numbers     what a table consists of
    contrast    rows against their baselines
    build       all of it together, beside the printed values
    wording, caption, cells, stars    what every format says
    markdown, latex, rows, page     the formats; rows are for CSV, page is HTML with every seed drawn

A table is a function of records, predictions and the experiment's file alone: made again, it is the same to the byte.
"""
