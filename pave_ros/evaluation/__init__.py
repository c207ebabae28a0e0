"""How well a model does on data sets, in the numbers of the papers.

`score` turns labelled pictures and the people found in them into `Result`s; `pave_ros evaluate` does the whole.
"""
