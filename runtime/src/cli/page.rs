//! `edgeblip page`: who is let in.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use edgeblip::page::LINK;
use edgeblip::page::keys::{KeyFile, Kind, now_s};
use edgeblip::page::link::{links, qr_code};
use field::config::{Config, ConfigError};
use serde_json::json;

use super::config::Service;
use super::{say, say_json};

/// Lets people and programs use the board's page.
#[derive(Args)]
pub struct Page {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Print a link that lets a browser in once, also as a code for a phone's camera; it works for 15 minutes
    Link(Link),
    /// Print a token for a program: it sends "Authorization: Bearer TOKEN"
    Token(Token),
    /// Take back every link, session and token
    Revoke(Revoke),
}

#[derive(Args)]
struct Link {
    #[command(flatten)]
    place: Service,
    /// The page was started with --lan
    #[arg(long)]
    lan: bool,
}

#[derive(Args)]
struct Token {
    #[command(flatten)]
    place: Service,
    /// Days for which it works
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..=3650))]
    days: u16,
}

#[derive(Args)]
struct Revoke {
    #[command(flatten)]
    place: Service,
}

impl Page {
    pub fn run(&self) -> Result<ExitCode> {
        match &self.action {
            Action::Link(link) => link.run()?,
            Action::Token(token) => token.run()?,
            Action::Revoke(revoke) => revoke.run()?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn read(service: &Service) -> Result<(Config, KeyFile)> {
    let config = service.read()?;
    let keys = KeyFile::of(&config.store.folder);
    Ok((config, keys))
}

impl Link {
    fn run(&self) -> Result<()> {
        let (mut config, keys) = read(&self.place)?;
        if self.lan {
            open_to_network(&mut config)?;
        }
        let links = fresh_links(&config, &keys)?;
        if self.place.json {
            return say_json(&json!({ "links": links, "seconds": LINK.as_secs() }));
        }
        print(&links)
    }
}

impl Token {
    fn run(&self) -> Result<()> {
        let seconds = Duration::from_secs(u64::from(self.days) * 24 * 3600).as_secs();
        let token = read(&self.place)?.1.make(Kind::Program, seconds, now_s())?;
        if self.place.json { say_json(&json!({ "token": token, "days": self.days })) } else { say(&token) }
    }
}

impl Revoke {
    fn run(&self) -> Result<()> {
        read(&self.place)?.1.renew()?;
        if self.place.json {
            say_json(&json!({ "done": "revoked" }))
        } else {
            say("every link, session and token is taken back")
        }
    }
}

/// Lets the page listen in the network, at the configured port.
pub(super) fn open_to_network(config: &mut Config) -> Result<(), ConfigError> {
    let address = config.page.address.or(field::config::Page::default().address);
    let port = address.map_or(0, |address| address.port());
    config.set("page.address", &format!("0.0.0.0:{port}"), Path::new(""))
}

/// Links to the page with one new token.
pub(super) fn fresh_links(config: &Config, keys: &KeyFile) -> Result<Vec<String>> {
    let address = config.page.address.context("page.address is \"none\": set an address, or start with --lan")?;
    Ok(links(address, &keys.make(Kind::Link, LINK.as_secs(), now_s())?))
}

/// Prints links, and the first one as a code.
pub(super) fn print(links: &[String]) -> Result<()> {
    for link in links {
        say(link)?;
    }
    match links.first().and_then(|link| qr_code(link)) {
        Some(code) => say(&code),
        None => Ok(()),
    }
}
