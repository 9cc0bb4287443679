//! Tells a broker what the board sees, and lets messages take frames. MQTT 3.1.1.
//!
//! Below `TOPIC/NAME/`, with the topic and the board's name of the configuration:
//!
//! | topic | payload |
//! |---|---|
//! | `availability` | `online` or `offline`, retained; the broker says the latter when the board is gone |
//! | `look` | the last picture's texts, scores and fate as JSON, retained |
//! | `picture` | the picture, a JPEG, retained |
//! | `health` | how the board does as JSON, retained, every half minute |
//! | `take` | to the board: takes a frame, whatever the payload says |
//! | `note` | to the board: takes a frame; the payload is a text for it |
//!
//! What happens while the broker is away is not told later: the store has it.

mod broker;
pub mod discovery;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use blip::caption::Caption;
use field::config;
use rumqttc::{AsyncClient, ConnectionError, Event, EventLoop, Packet, Publish, QoS};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::face::{Look, Outside, Request};
use crate::page::link::host_name;

pub use broker::BrokerError;

/// From one word of how the board does to the next.
const HEALTH: Duration = Duration::from_secs(30);
/// Messages that may wait to be sent.
const WAITING: usize = 32;
/// Longest wait before a broker that is away is tried again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Topics of one board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    prefix: String,
    /// The board's name in topics.
    pub name: String,
}

impl Topics {
    /// Those of a configuration.
    pub fn of(settings: &config::Mqtt) -> Topics {
        let name = settings.name.clone().unwrap_or_else(|| plain(&host_name()));
        let name = if name.is_empty() { "board".to_owned() } else { name };
        Topics { prefix: format!("{}/{name}", settings.topic), name }
    }

    /// One topic.
    pub fn topic(&self, last: &str) -> String {
        format!("{}/{last}", self.prefix)
    }
}

/// Host and port of the configured broker; nothing if there is none.
///
/// # Errors
/// As [`Speaker::new`].
pub fn broker_address(settings: &config::Mqtt) -> Result<Option<(String, u16)>, BrokerError> {
    let Some(broker) = &settings.broker else { return Ok(None) };
    let options = broker::options(broker.as_str(), settings.authority.as_deref(), &Topics::of(settings))?;
    Ok(Some(options.broker_address()))
}

/// A host's name with what topics can hold of it.
fn plain(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    lower.chars().map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' }).take(64).collect()
}

/// A way to a broker.
pub struct Speaker {
    settings: config::Mqtt,
    topics: Topics,
    outside: Outside,
    client: AsyncClient,
    events: EventLoop,
}

/// What comes from the broker.
enum Heard {
    Connected,
    Message(Publish),
    Lost(String),
}

impl Speaker {
    /// Reads where the broker is; nothing is sent yet. `None` if the configuration names none.
    ///
    /// # Errors
    /// A URL that names no broker, certificates that cannot be read.
    pub fn new(settings: &config::Mqtt, outside: Outside) -> Result<Option<Speaker>, BrokerError> {
        let Some(broker) = &settings.broker else { return Ok(None) };
        let topics = Topics::of(settings);
        let options = broker::options(broker.as_str(), settings.authority.as_deref(), &topics)?;
        let (client, events) = AsyncClient::new(options, WAITING);
        Ok(Some(Speaker { settings: settings.clone(), topics, outside, client, events }))
    }

    /// Speaks for ever; a broker that is away is waited for.
    pub async fn speak(self) -> Infallible {
        let (sender, mut heard) = mpsc::channel(WAITING);
        let Speaker { settings, topics, outside, client, events } = self;
        tokio::spawn(listen(events, sender));
        let mut voice = Voice { settings, topics, outside, client, is_connected: false };
        let mut looks = voice.outside.looks();
        let mut beat = tokio::time::interval(HEALTH);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(heard) = heard.recv() => voice.hear(heard).await,
                Ok(()) = looks.changed() => {
                    let look = looks.borrow_and_update().clone();
                    voice.tell_look(look.as_ref());
                }
                _ = beat.tick() => voice.tell_health(),
            }
        }
    }
}

/// Drives the connection; nothing that is told interrupts it half-way.
async fn listen(mut events: EventLoop, heard: mpsc::Sender<Heard>) {
    let mut wait = Duration::from_secs(1);
    loop {
        let next = match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                wait = Duration::from_secs(1);
                Heard::Connected
            }
            Ok(Event::Incoming(Packet::Publish(message))) => Heard::Message(message),
            Ok(_) => continue,
            Err(error) => {
                let is_first = wait == Duration::from_secs(1);
                if is_first && heard.send(Heard::Lost(explained(&error))).await.is_err() {
                    return;
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
                continue;
            }
        };
        if heard.send(next).await.is_err() {
            return;
        }
    }
}

fn explained(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(code) => format!("it refuses us: {code:?}"),
        error => terminal::explained(error),
    }
}

struct Voice {
    settings: config::Mqtt,
    topics: Topics,
    outside: Outside,
    client: AsyncClient,
    is_connected: bool,
}

impl Voice {
    async fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Connected => {
                log::info!(topic = self.topics.topic("#"); "the broker is there");
                self.is_connected = true;
                self.greet();
            }
            Heard::Lost(error) => {
                log::warn!(error = error; "the broker is away, and waited for");
                self.is_connected = false;
            }
            // What was kept for whoever comes is no command of now.
            Heard::Message(message) if !message.retain => self.obey(&message).await,
            Heard::Message(_) => {}
        }
    }

    fn greet(&self) {
        self.tell("availability", "online");
        if let Some(prefix) = &self.settings.discovery {
            for message in discovery::messages(prefix, &self.topics, &self.settings) {
                self.publish(message.topic, message.payload.to_string());
            }
        }
        if self.settings.commands {
            for topic in ["take", "note"] {
                // A channel that is full is one that does not connect.
                let _ = self.client.try_subscribe(self.topics.topic(topic), QoS::AtMostOnce);
            }
        }
        self.tell_look(self.outside.look().as_ref());
        self.tell_health();
    }

    async fn obey(&self, message: &Publish) {
        let is = |topic: &str| message.topic == self.topics.topic(topic);
        let note = if is("take") {
            None
        } else if is("note") {
            let words = std::str::from_utf8(&message.payload).ok().and_then(|words| Caption::new(words.trim()).ok());
            let Some(words) = words else {
                log::warn!(topic = message.topic.as_str(); "a message's text cannot be stored: at most 256 printable bytes");
                return;
            };
            Some(words).filter(|words| !words.as_str().is_empty())
        } else {
            return;
        };
        if let Err(refusal) = self.outside.ask(|answer| Request::Take { note, answer }).await {
            log::info!(reason:% = refusal; "a message takes no frame");
        }
    }

    fn tell_look(&self, look: Option<&Arc<Look>>) {
        let Some(look) = look else { return };
        self.tell("look", &look.json().to_string());
        if self.settings.pictures {
            self.publish(self.topics.topic("picture"), look.jpeg.clone());
        }
    }

    fn tell_health(&self) {
        if let Some(health) = self.outside.health() {
            self.tell("health", &health.json().to_string());
        }
    }

    fn tell(&self, topic: &str, payload: &str) {
        self.publish(self.topics.topic(topic), payload);
    }

    fn publish(&self, topic: String, payload: impl Into<Vec<u8>>) {
        if !self.is_connected {
            return;
        }
        if let Err(error) = self.client.try_publish(topic, QoS::AtLeastOnce, true, payload) {
            log::debug!(error:% = error; "the broker is not told, for more waits than is kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_hold_what_every_broker_takes() {
        assert_eq!(plain("Owl's Nest/+#"), "owl-s-nest---");
        let settings = config::Mqtt { name: Some("owl".to_owned()), ..config::Mqtt::default() };
        assert_eq!(Topics::of(&settings).topic("look"), "edgeblip/owl/look");
    }
}
