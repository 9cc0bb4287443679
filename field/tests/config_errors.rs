//! What people read when their configuration is wrong: each file of `goldens/config` with the message for it.

use std::fs;
use std::path::Path;

use field::config::Config;
use firmware_config::BoardProfile;

#[test]
fn a_wrong_configuration_is_told_with_line_key_and_what_is_allowed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/config");
    let board = BoardProfile::named("arm64").unwrap();
    let mut seen = 0;
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "toml") {
            continue;
        }
        let name = Path::new(path.file_name().unwrap());
        let faults = Config::parse(&fs::read_to_string(&path).unwrap(), name, board).unwrap_err();
        let message = format!("{faults}\n");
        let golden = path.with_extension("txt");
        if std::env::var_os("EDGEBLIP_WRITE_MESSAGES").is_some() {
            fs::write(&golden, &message).unwrap();
        }
        assert_eq!(fs::read_to_string(&golden).unwrap(), message, "{}", name.display());
        seen += 1;
    }
    assert_eq!(seen, 7);
}
