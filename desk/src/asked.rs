//! Which pairs somebody wants to see.

use serde::Deserialize;

/// What of the pairs is wanted.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Asked {
    pub(crate) device: Option<String>,
    pub(crate) state: Option<String>,
    pub(crate) text: Option<String>,
    pub(crate) after: Option<i64>,
}

impl Asked {
    /// The address of the page that follows.
    pub(crate) fn next(&self, after: i64) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in [("device", &self.device), ("state", &self.state), ("text", &self.text)] {
            if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
                query.append_pair(name, value);
            }
        }
        query.append_pair("after", &after.to_string());
        format!("/pairs?{}", query.finish())
    }
}
