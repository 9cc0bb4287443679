//! The command line: one file a command, thin over the library.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use terminal::explained;

mod models;
mod scenes;
mod train;
mod capfilt;
mod evaluate;
mod devices;
mod source;
mod host_folder;
mod inbox;
mod serve;
mod pairs;
mod datasets;
mod keeping;
mod root;
mod publish;

/// Trains BLIP from pairs, filters and re-captions them, and measures.
#[derive(Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a model that captions and matches, from pairs
    Pretrain(train::Train),
    /// Train a model further, for one thing
    #[command(subcommand)]
    Finetune(Finetune),
    /// Make a better dataset of a noisy one: caption its pictures, and throw out texts that do not match (CapFilt)
    Capfilt(capfilt::Filter),
    /// Measure captions, retrieval, matching and answers
    Evaluate(evaluate::Evaluate),
    /// Make composed pictures with known captions, to learn from and to measure on
    Scenes(scenes::Make),
    /// Let boards in
    Devices(devices::Devices),
    /// Take in what boards have sent, and sign for what is safe
    Inbox(inbox::TakeIn),
    /// Look at pairs that came home, and say which are good
    Pairs(pairs::Pairs),
    /// Make numbered datasets of the pairs that came home
    Dataset(datasets::Datasets),
    /// Copy the host's folder, again and again
    Backup(keeping::Backup),
    /// Delete pairs that arrived long ago
    Retention(keeping::Keep),
    /// Be the host: the place where boards put pairs and find receipts and releases, the inbox, and the operator's page
    Serve(serve::Serve),
    /// The keys above all: who may release models for boards
    Root(root::Roots),
    /// Release models for boards
    Publish(publish::Publish),
    /// Decode pictures from standard input in little memory: what "inbox" starts
    #[command(hide = true)]
    DecodePictures,
}

#[derive(Subcommand)]
enum Finetune {
    /// To write captions
    Captioner(train::Train),
    /// To say whether a text matches a picture
    Matcher(train::Train),
    /// To answer questions about pictures
    Answerer(train::Train),
}

pub fn run() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("edgeblip-trainer: {}", explained(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<()> {
    use edgeblip_trainer::settings::Task;
    match command {
        Command::Pretrain(train) => train.run(Task::Pretrain),
        Command::Finetune(Finetune::Captioner(train)) => train.run(Task::Captioner),
        Command::Finetune(Finetune::Matcher(train)) => train.run(Task::Matcher),
        Command::Finetune(Finetune::Answerer(train)) => train.run(Task::Answerer),
        Command::Capfilt(filter) => filter.run(),
        Command::Evaluate(evaluate) => evaluate.run(),
        Command::Scenes(scenes) => scenes.run(),
        Command::Devices(devices) => devices.run(),
        Command::Inbox(inbox) => inbox.run(),
        Command::Pairs(pairs) => pairs.run(),
        Command::Dataset(datasets) => datasets.run(),
        Command::Backup(backup) => backup.run(),
        Command::Retention(keep) => keep.run(),
        Command::Serve(serve) => serve.run(),
        Command::Root(roots) => roots.run(),
        Command::Publish(publish) => publish.run(),
        Command::DecodePictures => Ok(host::decoder::decode()?),
    }
}
