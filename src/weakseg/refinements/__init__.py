"""Refinements turn maps into better maps, without masks; a chain runs from left to right.

``threshold`` is the identity and needs no run. ``components`` works on masks and is applied when maps are cut. Every
other step is a module of its name here, with ``refine(relevance, case, **settings)``: a map (X, Y, Z) in [0, 1] and a
:class:`weakseg.refinements.case.Case` to a map in [0, 1]. The ``student`` alone is trained before, for each chain and
method, on maps of training cases that went through the steps before it.
"""
