//! What Home Assistant is told, so that the board is a device there without being set up.
//!
//! Source: home-assistant.io, "MQTT", section "MQTT Discovery", and the pages of the platforms sensor, binary sensor, image and
//! button. A message a component: `PREFIX/COMPONENT/NODE/OBJECT/config`, retained.

use field::config;
use serde_json::{Value, json};

use super::Topics;

/// A message that makes one component.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Where it goes.
    pub topic: String,
    /// What it says.
    pub payload: Value,
}

/// The messages of a board.
pub fn messages(prefix: &str, topics: &Topics, settings: &config::Mqtt) -> Vec<Message> {
    let node = format!("edgeblip_{}", topics.name.replace('-', "_"));
    let (look, health) = (topics.topic("look"), topics.topic("health"));
    // A state is at most 255 characters long. Source: Home Assistant's `const.py`, MAX_LENGTH_STATE_STATE.
    let mut components = vec![
        (
            "sensor",
            "caption",
            json!({
                "name": "Caption", "icon": "mdi:image-text", "state_topic": look, "json_attributes_topic": look,
                "value_template": "{{ (value_json.caption or '')[:255] }}",
            }),
        ),
        (
            "sensor",
            "match",
            json!({
                "name": "Match", "icon": "mdi:percent", "state_topic": look, "unit_of_measurement": "%", "state_class": "measurement",
                "suggested_display_precision": 0,
                "value_template": "{{ value_json.match * 100 if value_json.match is not none else none }}",
            }),
        ),
        (
            "sensor",
            "temperature",
            json!({
                "name": "Temperature", "device_class": "temperature", "state_class": "measurement", "unit_of_measurement": "°C",
                "state_topic": health, "entity_category": "diagnostic",
                "value_template": "{{ value_json.celsius if value_json.celsius is not none else none }}",
            }),
        ),
        (
            "sensor",
            "kept",
            json!({
                "name": "Pairs kept", "icon": "mdi:image-multiple", "state_class": "total_increasing", "state_topic": health,
                "entity_category": "diagnostic", "value_template": "{{ value_json.kept }}",
            }),
        ),
        (
            "binary_sensor",
            "problem",
            json!({
                "name": "Problem", "device_class": "problem", "state_topic": health, "entity_category": "diagnostic",
                "value_template": "{{ 'ON' if value_json.status in ['full', 'error'] else 'OFF' }}",
            }),
        ),
    ];
    if settings.pictures {
        let picture =
            json!({ "name": "Snapshot", "image_topic": topics.topic("picture"), "content_type": "image/jpeg" });
        components.push(("image", "snapshot", picture));
    }
    if settings.commands {
        let button = json!({ "name": "Take a picture", "icon": "mdi:camera", "command_topic": topics.topic("take") });
        components.push(("button", "take", button));
    }
    let shared = json!({
        "availability_topic": topics.topic("availability"),
        "device": {
            "identifiers": [node], "name": topics.name, "manufacturer": "edgeblip", "model": "edgeblip board",
            "sw_version": env!("CARGO_PKG_VERSION"),
        },
        "origin": {
            "name": "edgeblip", "sw_version": env!("CARGO_PKG_VERSION"), "support_url": env!("CARGO_PKG_REPOSITORY"),
        },
    });
    components
        .into_iter()
        .map(|(component, object, payload)| {
            let mut payload = merged(payload, &shared);
            let id = format!("{node}_{object}");
            if let Value::Object(fields) = &mut payload {
                fields.insert("unique_id".to_owned(), json!(id));
            }
            Message { topic: format!("{prefix}/{component}/{node}/{object}/config"), payload }
        })
        .collect()
}

fn merged(mut payload: Value, shared: &Value) -> Value {
    if let (Value::Object(fields), Value::Object(shared)) = (&mut payload, shared) {
        fields.extend(shared.clone());
    }
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_component_has_an_id_of_its_own_and_a_topic_that_home_assistant_reads() {
        let settings = config::Mqtt { name: Some("owl-2".to_owned()), ..config::Mqtt::default() };
        let messages = messages("homeassistant", &Topics::of(&settings), &settings);
        assert_eq!(messages.len(), 7);
        let ids: std::collections::BTreeSet<String> =
            messages.iter().map(|message| message.payload["unique_id"].to_string()).collect();
        assert_eq!(ids.len(), messages.len());
        for message in &messages {
            let parts: Vec<&str> = message.topic.split('/').collect();
            assert!(matches!(parts[..], ["homeassistant", _, "edgeblip_owl_2", _, "config"]), "{}", message.topic);
        }
        let none = config::Mqtt { pictures: false, commands: false, ..settings };
        assert_eq!(super::messages("homeassistant", &Topics::of(&none), &none).len(), 5);
    }
}
