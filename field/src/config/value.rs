//! Kinds of values that settings have: how each is read, written, and what it may be.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use toml::Value as Toml;

use crate::hours::{Hours, Zone};
use crate::region::Region;

/// Longest path or source, in bytes. Source: Linux `limits.h`, `PATH_MAX`.
const MAX_PATH_BYTES: usize = 4096;

/// A kind of value.
pub(super) trait Value: Sized {
    /// What narrows it for one setting.
    type Allowed;

    /// Reads a value; `None` if it is not allowed.
    fn read(value: &Toml, allowed: &Self::Allowed) -> Option<Self>;

    /// Writes it.
    fn write(&self, allowed: &Self::Allowed) -> Toml;

    /// What is allowed, in words.
    fn allowed(allowed: &Self::Allowed) -> String;

    /// Makes paths relative to `folder` absolute.
    fn resolve(&mut self, _folder: &Path) {}
}

macro_rules! whole_numbers {
    ($($type:ty),*) => { $(
        impl Value for $type {
            type Allowed = RangeInclusive<$type>;

            fn read(value: &Toml, allowed: &Self::Allowed) -> Option<Self> {
                let number = <$type>::try_from(value.as_integer()?).ok()?;
                allowed.contains(&number).then_some(number)
            }

            fn write(&self, _allowed: &Self::Allowed) -> Toml {
                // TOML's integers are signed; a test writes the largest of every range.
                Toml::Integer(i64::try_from(*self).unwrap_or(i64::MAX))
            }

            fn allowed(allowed: &Self::Allowed) -> String {
                format!("a whole number from {} to {}", allowed.start(), allowed.end())
            }
        }
    )* };
}

whole_numbers!(u8, u16, u32, u64);

impl Value for f64 {
    type Allowed = RangeInclusive<f64>;

    fn read(value: &Toml, allowed: &Self::Allowed) -> Option<Self> {
        let number = value.as_float().or_else(|| Some(value.as_integer()? as f64))?;
        allowed.contains(&number).then_some(number)
    }

    fn write(&self, _allowed: &Self::Allowed) -> Toml {
        Toml::Float(*self)
    }

    fn allowed(allowed: &Self::Allowed) -> String {
        format!("a number from {} to {}", allowed.start(), allowed.end())
    }
}

impl Value for bool {
    type Allowed = ();

    fn read(value: &Toml, (): &()) -> Option<Self> {
        value.as_bool()
    }

    fn write(&self, (): &()) -> Toml {
        Toml::Boolean(*self)
    }

    fn allowed((): &()) -> String {
        "true or false".to_owned()
    }
}

/// A word that stands for no value of a kind, beside what is allowed of the kind.
pub(super) struct Or<A>(pub &'static str, pub A);

impl<V: Value> Value for Option<V> {
    type Allowed = Or<V::Allowed>;

    fn read(value: &Toml, Or(word, allowed): &Self::Allowed) -> Option<Self> {
        if value.as_str() == Some(*word) {
            return Some(None);
        }
        V::read(value, allowed).map(Some)
    }

    fn write(&self, Or(word, allowed): &Self::Allowed) -> Toml {
        self.as_ref().map_or_else(|| Toml::String((*word).to_owned()), |value| value.write(allowed))
    }

    fn allowed(Or(word, allowed): &Self::Allowed) -> String {
        format!("\"{word}\", or {}", V::allowed(allowed))
    }

    fn resolve(&mut self, folder: &Path) {
        if let Some(value) = self {
            value.resolve(folder);
        }
    }
}

/// Which texts are allowed.
pub(super) enum Text {
    /// One line that can be printed, of at most so many bytes.
    Line(usize),
    /// A name for folders and keys: lower case letters, digits and dashes, at most so many.
    Name(usize),
}

impl Value for String {
    type Allowed = Text;

    fn read(value: &Toml, allowed: &Text) -> Option<Self> {
        let text = value.as_str()?;
        let fits = match allowed {
            Text::Line(most) => text.len() <= *most && !text.chars().any(char::is_control),
            Text::Name(most) => {
                let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
                text.len() <= *most && text.bytes().all(is_letter)
            }
        };
        fits.then(|| text.to_owned())
    }

    fn write(&self, _allowed: &Text) -> Toml {
        Toml::String(self.clone())
    }

    fn allowed(allowed: &Text) -> String {
        match allowed {
            Text::Line(most) => format!("a text of one line, at most {most} bytes"),
            Text::Name(most) => format!("at most {most} lower case letters, digits and dashes"),
        }
    }
}

impl Value for PathBuf {
    type Allowed = ();

    fn read(value: &Toml, (): &()) -> Option<Self> {
        let path = value.as_str()?;
        let is_path = !path.is_empty() && path.len() <= MAX_PATH_BYTES && !path.chars().any(char::is_control);
        is_path.then(|| PathBuf::from(path))
    }

    fn write(&self, (): &()) -> Toml {
        Toml::String(self.display().to_string())
    }

    fn allowed((): &()) -> String {
        "a path".to_owned()
    }

    fn resolve(&mut self, folder: &Path) {
        *self = folder.join(&self);
    }
}

/// Where frames come from, as a URL or `kind:rest`. A path in it is relative to the configuration's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source(pub(super) String);

impl Source {
    /// The source as it is written, its path made absolute.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Value for Source {
    type Allowed = ();

    fn read(value: &Toml, (): &()) -> Option<Self> {
        let text = value.as_str()?;
        let is_source = text == "-"
            || text.starts_with("-?")
            || text.split_once(':').is_some_and(|(kind, rest)| !kind.is_empty() && !rest.is_empty());
        let is_line = text.len() <= MAX_PATH_BYTES && !text.chars().any(char::is_control);
        (is_source && is_line).then(|| Source(text.to_owned()))
    }

    fn write(&self, (): &()) -> Toml {
        Toml::String(self.0.clone())
    }

    fn allowed((): &()) -> String {
        "\"-\", a URL, or a kind and what it names as \"v4l:/dev/video0\"".to_owned()
    }

    fn resolve(&mut self, folder: &Path) {
        if let Some((kind @ ("folder" | "video" | "picture"), path)) = self.0.split_once(':') {
            self.0 = format!("{kind}:{}", folder.join(path).display());
        }
    }
}

/// Where messages go, as a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker(String);

impl Broker {
    /// The URL as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Value for Broker {
    type Allowed = ();

    fn read(value: &Toml, (): &()) -> Option<Self> {
        let text = value.as_str()?;
        let rest = text.strip_prefix("mqtt://").or_else(|| text.strip_prefix("mqtts://"))?;
        let is_line = text.len() <= MAX_PATH_BYTES && !text.chars().any(|c| c.is_control() || c == ' ');
        (!rest.is_empty() && is_line).then(|| Broker(text.to_owned()))
    }

    fn write(&self, (): &()) -> Toml {
        Toml::String(self.0.clone())
    }

    fn allowed((): &()) -> String {
        "a URL as \"mqtt://broker.local\" or \"mqtts://user:password@broker.local:8883\"".to_owned()
    }
}

/// Most regions of one setting.
const MAX_REGIONS: usize = 64;

impl Value for Vec<Region> {
    type Allowed = ();

    fn read(value: &Toml, (): &()) -> Option<Self> {
        let regions = value.as_array()?;
        let region = |value: &Toml| {
            let shares: Option<Vec<f64>> =
                value.as_array()?.iter().map(|share| f64::read(share, &(0.0..=1.0))).collect();
            Region::new(&shares?)
        };
        if regions.len() > MAX_REGIONS { None } else { regions.iter().map(region).collect() }
    }

    fn write(&self, (): &()) -> Toml {
        let region = |region: &Region| Toml::Array(region.shares().into_iter().map(Toml::Float).collect());
        Toml::Array(self.iter().map(region).collect())
    }

    fn allowed((): &()) -> String {
        format!(
            "at most {MAX_REGIONS} rectangles [left, top, width, height] or polygons [x, y, x, y, x, y, ...] inside the \
             picture, in shares from 0 to 1"
        )
    }
}

macro_rules! written_as_text {
    ($($type:ty: $allowed:literal),*) => { $(
        impl Value for $type {
            type Allowed = ();

            fn read(value: &Toml, (): &()) -> Option<Self> {
                value.as_str()?.parse().ok()
            }

            fn write(&self, (): &()) -> Toml {
                Toml::String(self.to_string())
            }

            fn allowed((): &()) -> String {
                $allowed.to_owned()
            }
        }
    )* };
}

written_as_text!(
    SocketAddr: "an address and a port as \"127.0.0.1:8020\" or \"[::1]:8020\"",
    Hours: "hours as \"06:30-19:00\"; \"00:00-24:00\" is always",
    Zone: "\"UTC\", an offset as \"+02:00\", or a name in /usr/share/zoneinfo as \"Europe/Berlin\""
);

/// Words of which a setting is one.
macro_rules! choice {
    ($(#[doc = $about:literal])* $name:ident { $( $(#[doc = $doc:literal])* $variant:ident = $word:literal, )* }) => {
        $(#[doc = $about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $( $(#[doc = $doc])* $variant, )* }

        impl $crate::config::value::Value for $name {
            type Allowed = ();

            fn read(value: &toml::Value, (): &()) -> Option<Self> {
                match value.as_str()? {
                    $( $word => Some($name::$variant), )*
                    _ => None,
                }
            }

            fn write(&self, (): &()) -> toml::Value {
                let word = match self { $( $name::$variant => $word, )* };
                toml::Value::String(word.to_owned())
            }

            fn allowed((): &()) -> String {
                format!("one of {}", [$( concat!("\"", $word, "\"") ),*].join(", "))
            }
        }
    };
}

pub(super) use choice;
