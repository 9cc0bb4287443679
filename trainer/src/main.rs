//! `edgeblip-trainer`: the host's half of the loop.

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
