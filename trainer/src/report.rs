//! One HTML page about a run, with its plots.
