"""Train deep hashing models, turn items into binary codes, search them and measure retrieval.

The program around `dshc_fast`: :mod:`dshc.data` reads labelled sets and splits them by named protocols,
:mod:`dshc.codebooks` lays out codes, :mod:`dshc.methods` holds the hashing methods, :mod:`dshc.training`
trains them, :mod:`dshc.evaluation`, :mod:`dshc.index` and :mod:`dshc.report` measure, search and draw. ``dshc
--help`` is the same from the command line.
"""
