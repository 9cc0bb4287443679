//! `edgeblip`: captions, scores, answers, vectors and search on one machine, and the field runtime.

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
