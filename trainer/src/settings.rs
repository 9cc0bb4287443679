//! Every knob of every command: one TOML file each, with its default and where the default is from.
