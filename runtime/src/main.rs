//! `edgeblip`: captions, scores, answers, vectors and search on one machine.

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
