//! `edgeblip-trainer`: the host's half of the loop.

fn main() {}
