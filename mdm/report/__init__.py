"""After the tables: all that an experiment has left on disk, on one HTML page that needs no network.

    curves      curve.csv of every run → what each quantity did, seed by seed
    charts      numbers → inline SVG: drawn by matplotlib, coloured by the page
    differences the table's comparisons as a picture and in words
    pictures    the picture and the summary of every study
    provenance  records → how it was run: data, protocol, time, code, what is missing
    page        all of it

A page is a function of files alone: made again from the same ones, it is the same to the byte.
"""
