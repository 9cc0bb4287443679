//! The house rules that a machine can check: STYLE.md and ARCHITECTURE.md say why.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// Most lines of a source file.
const MAX_LINES: usize = 500;
/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["utils", "util", "common", "helpers", "types", "manager", "misc"];
/// Where `unsafe` may stand: files, and folders with a slash at the end.
const UNSAFE: &[&str] = &[
    "field/src/clock/kernel.rs",
    "runtime/src/kernels/",
    "runtime/src/bundle.rs",
    "trainer/src/engine/cpu/product.rs",
    "trainer/src/engine/cuda.rs",
    "trainer/src/engine/cuda/",
    "trainer/tests/cuda/",
];
/// Where tract may be named.
const TRACT: &[&str] = &["runtime/src/inference.rs", "runtime/src/inference/", "runtime/benches/stock_tract.rs"];
/// Where `anyhow` may be named: programs, not libraries.
const ANYHOW: &[&str] = &[
    "runtime/src/cli.rs",
    "runtime/src/cli/",
    "runtime/benches/stock_tract.rs",
    "export/src/main.rs",
    "trainer/src/cli.rs",
    "trainer/src/cli/",
    "trainer/benches/",
    "trainer/examples/",
    "trainer/tests/",
    "store/examples/",
    "store/tests/",
    "update/tests/",
    "examples/",
    "tests/",
];
/// Crates that promise to have no `unsafe` at all.
const SAFE_CRATES: &[&str] = &[
    "terminal",
    "blip",
    "picture",
    "store",
    "checkpoint",
    "dataset",
    "exchange",
    "objects",
    "sync",
    "host",
    "export",
    "firmware-config",
];

#[test]
fn a_module_uses_only_modules_above_it() -> Result<()> {
    let mut faults = Vec::new();
    let mut modules_seen = 0;
    for package in members()? {
        let source = root().join(&package).join("src");
        let Ok(library) = std::fs::read_to_string(source.join("lib.rs")) else { continue };
        let modules = declared_modules(&code_of(&library));
        for (place, module) in modules.iter().enumerate() {
            modules_seen += 1;
            for (path, depth) in files_of_module(&source, module)? {
                let code = code_of(&read(&path)?);
                for used in modules_named(&code, depth) {
                    if modules.iter().position(|known| *known == used).is_some_and(|other| other > place) {
                        faults.push(format!("{}: {module} uses {used}, which stands below it", shown(&path)));
                    }
                }
            }
        }
    }
    ensure!(modules_seen >= 30, "only {modules_seen} modules found: is the test looking in the right place?");
    report(faults)
}

#[test]
fn only_the_inference_module_names_tract() -> Result<()> {
    let names_tract = |code: &str| words(code).any(|word| word == "tract" || word.starts_with("tract_"));
    stands_only_in(TRACT, names_tract, "names tract")
}

#[test]
fn unsafe_stands_only_in_kernels_and_the_memory_map() -> Result<()> {
    stands_only_in(UNSAFE, |code| words(code).any(|word| word == "unsafe"), "contains unsafe")?;
    let without = |package: &&&str| {
        !read(&root().join(package).join("src/lib.rs")).is_ok_and(|text| text.contains("#![forbid(unsafe_code)]"))
    };
    report(SAFE_CRATES.iter().filter(without).map(|package| format!("{package} does not forbid unsafe_code")).collect())
}

#[test]
fn libraries_have_errors_of_their_own() -> Result<()> {
    stands_only_in(ANYHOW, |code| words(code).any(|word| word == "anyhow"), "names anyhow")
}

#[test]
fn a_file_is_named_for_what_it_holds() -> Result<()> {
    let is_empty_name = |path: &PathBuf| {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        stem == "mod" || EMPTY_NAMES.contains(&stem)
    };
    let sources = files(&["rs", "py"])?.into_iter();
    report(sources.filter(is_empty_name).map(|path| format!("{}: the name says nothing", shown(&path))).collect())
}

#[test]
fn a_source_file_has_at_most_500_lines() -> Result<()> {
    each(&["rs"], |text| {
        let lines = text.lines().count();
        (lines > MAX_LINES).then(|| format!("{lines} lines"))
    })
}

#[test]
fn nothing_is_left_to_be_done() -> Result<()> {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
    each(&["rs", "py", "sh", "toml", ""], |text| {
        let mark = marks.into_iter().find(|mark| words(text).any(|word| word == *mark))?;
        Some(format!("{mark}: do it, or write an issue"))
    })?;
    each_code(|code| {
        let gap = ["todo!", "unimplemented!"].into_iter().find(|gap| code.contains(gap))?;
        Some(format!("{gap} panics"))
    })
}

#[test]
fn no_test_is_ignored() -> Result<()> {
    each_code(|code| code.contains(concat!("#[", "ignore")).then(|| "a test is ignored".to_owned()))
}

#[test]
fn every_allow_has_a_reason() -> Result<()> {
    each_code(|code| {
        let without = |start: &str| {
            let attribute = code.split(start).skip(1).map(|rest| rest.split(']').next().unwrap_or_default());
            attribute.into_iter().any(|attribute| !words(attribute).any(|word| word == "reason"))
        };
        (without("[allow(") || without("[expect(")).then(|| "an allow without a reason".to_owned())
    })
}

#[test]
fn no_file_names_a_place_on_the_machine_that_made_it() -> Result<()> {
    let places = ["work", "home", "root", "tmp", "Users"].map(|name| format!("/{name}/"));
    each(&["rs", "md", "toml", "sh", "py", "json", ""], |text| {
        let starts_a_path =
            |at: usize| !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || "._-~/}".contains(c));
        let found = places.iter().find(|place| text.match_indices(place.as_str()).any(|(at, _)| starts_a_path(at)))?;
        Some(format!("{found}... is a path of one machine"))
    })
}

#[test]
fn readme_and_architecture_show_every_crate() -> Result<()> {
    let mut faults = Vec::new();
    for page in ["README.md", "ARCHITECTURE.md"] {
        let text = read(&root().join(page))?;
        let missing = members()?.into_iter().filter(|package| !text.contains(&format!("{package}/")));
        faults.extend(missing.map(|package| format!("{page}: nothing about {package}/")));
    }
    report(faults)
}

#[test]
fn links_between_pages_lead_somewhere() -> Result<()> {
    let mut faults = Vec::new();
    for page in files(&["md"])? {
        let text = read(&page)?;
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            let is_ours = !file.is_empty() && !file.contains("://");
            if is_ours && !page.parent().context("a page lies in a folder")?.join(file).exists() {
                faults.push(format!("{}: {target} leads nowhere", shown(&page)));
            }
        }
    }
    report(faults)
}

#[test]
fn strings_and_comments_are_not_code() {
    let source = "a /* unsafe /* b */ unsafe */ c // unsafe\n\"unsafe \\\" unsafe\" r#\"unsafe \" unsafe\"# '\"' 'a f<'a>('\\'') d";
    let code = code_of(source);
    assert_eq!(words(&code).collect::<Vec<_>>(), ["a", "c", "a", "f", "a", "d"]);
    assert_eq!(
        modules_named("use crate::{pixels::Rgb8, config}; crate::names::of()", 1),
        ["pixels", "config", "names"]
    );
    assert_eq!(modules_named("use super::super::config::Role; use super::x;", 2), ["config"]);
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

/// The path from the root, with slashes.
fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).to_string_lossy().replace('\\', "/")
}

fn report(faults: Vec<String>) -> Result<()> {
    ensure!(faults.is_empty(), "\n{}", faults.join("\n"));
    Ok(())
}

/// Folders of the workspace's packages.
fn members() -> Result<Vec<String>> {
    let manifest = read(&root().join("Cargo.toml"))?;
    let list = manifest.split("members = [").nth(1).and_then(|rest| rest.split(']').next());
    let members = list.context("the workspace lists its members")?.split('"').skip(1).step_by(2);
    Ok(members.map(str::to_owned).collect())
}

/// Files of ours with one of these endings, `""` for none: no build outputs, no downloads.
fn files(endings: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().with_context(|| format!("listing {}", folder.display()))? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_made = name.starts_with("target") || ["corpus", "artifacts", "__pycache__"].contains(&name);
            let is_hidden = name.starts_with('.') && name != ".ci";
            if is_made && path.is_dir() || is_hidden {
                continue;
            }
            let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
            if path.is_dir() {
                folders.push(path);
            } else if endings.contains(&ending) {
                found.push(path);
            }
        }
    }
    ensure!(!found.is_empty(), "no file ends in {endings:?}");
    found.sort();
    Ok(found)
}

/// Reports what `fault` finds in the texts of files with these endings.
fn each(endings: &[&str], fault: impl Fn(&str) -> Option<String>) -> Result<()> {
    let mut faults = Vec::new();
    for path in files(endings)? {
        if let Some(fault) = fault(&read(&path)?) {
            faults.push(format!("{}: {fault}", shown(&path)));
        }
    }
    report(faults)
}

/// Reports what `fault` finds in Rust sources without strings and comments.
fn each_code(fault: impl Fn(&str) -> Option<String>) -> Result<()> {
    each(&["rs"], |text| fault(&code_of(text)))
}

/// Reports Rust sources outside of `places` whose code has what `has` looks for.
fn stands_only_in(places: &[&str], has: impl Fn(&str) -> bool, what: &str) -> Result<()> {
    let mut faults = Vec::new();
    for path in files(&["rs"])? {
        let name = shown(&path);
        let is_allowed = places.iter().any(|place| name == *place || place.ends_with('/') && name.starts_with(place));
        if !is_allowed && has(&code_of(&read(&path)?)) {
            faults.push(format!("{name} {what}"));
        }
    }
    report(faults)
}

/// `mod x;` in the order in which they stand.
fn declared_modules(code: &str) -> Vec<String> {
    let names = code.lines().filter_map(|line| line.split("mod ").nth(1)?.strip_suffix(';'));
    names.map(|name| name.trim().to_owned()).collect()
}

/// The files of a top-level module, each with the number of `super` that lead from it to the crate's root.
fn files_of_module(source: &Path, module: &str) -> Result<Vec<(PathBuf, usize)>> {
    let file = source.join(format!("{module}.rs"));
    ensure!(file.exists(), "{} is declared and missing", shown(&file));
    let mut found = vec![(file, 1)];
    let mut folders = vec![(source.join(module), 2)];
    while let Some((folder, depth)) = folders.pop() {
        let Ok(entries) = folder.read_dir() else { continue };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push((path, depth + 1));
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push((path, depth));
            }
        }
    }
    Ok(found)
}

/// First names of the paths from the crate's root: `crate::x`, `crate::{x, y}`, and `super::x` with `depth` supers,
/// where tests inside the file, whose `super` is the file itself, are left out.
fn modules_named(code: &str, depth: usize) -> Vec<String> {
    let above_tests = code.split("#[cfg(test)]").next().unwrap_or_default();
    let supers = "super::".repeat(depth);
    let is_start = |text: &str, at: usize| !text[..at].ends_with(|c: char| c == '_' || c == ':' || c.is_alphanumeric());
    let mut named = Vec::new();
    for (text, start) in [(code, "crate::"), (above_tests, supers.as_str())] {
        for (at, _) in text.match_indices(start).filter(|&(at, _)| is_start(text, at)) {
            named.extend(first_names(&text[at + start.len()..]));
        }
    }
    named
}

/// `x::y` -> x; `{x::{y, z}, w}` -> x, w.
fn first_names(path: &str) -> Vec<String> {
    let first = |part: &str| words(part).next().unwrap_or_default().to_owned();
    let Some(group) = path.strip_prefix('{') else { return vec![first(path)] };
    let mut names = Vec::new();
    let (mut depth, mut part) = (0, 0);
    for (at, c) in group.char_indices() {
        let ends = depth == 0 && (c == ',' || c == '}');
        if ends {
            names.push(first(&group[part..at]));
            part = at + 1;
        }
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            _ => {}
        }
    }
    names
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c != '_' && !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

/// Rust source without comments and without what is inside literals; lines stay where they are.
fn code_of(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let skipped = literal_or_comment(rest, code.chars().next_back());
        if skipped == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            code.extend(rest[..skipped].chars().filter(|&c| c == '\n'));
            code.push(' ');
            rest = &rest[skipped..];
        }
    }
    code
}

/// Bytes of the comment or literal that `rest` starts with; 0 if it starts with code.
fn literal_or_comment(rest: &str, before: Option<char>) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment(rest);
    }
    if rest.starts_with('"') {
        return quoted(rest, '"');
    }
    if let Some(after) = rest.strip_prefix('\'') {
        let mut next = after.chars();
        let is_lifetime = next.next() != Some('\\') && next.next() != Some('\'');
        return if is_lifetime { 0 } else { quoted(rest, '\'') };
    }
    let is_word = before.is_some_and(|c| c == '_' || c.is_alphanumeric());
    let after = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r')).unwrap_or_default();
    let hashes = after.len() - after.trim_start_matches('#').len();
    if is_word || !after[hashes..].starts_with('"') {
        return 0;
    }
    let start = rest.len() - after.len() + hashes + 1;
    let end = format!("\"{}", "#".repeat(hashes));
    rest[start..].find(&end).map_or(rest.len(), |at| start + at + end.len())
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    for (at, pair) in rest.as_bytes().windows(2).enumerate() {
        match pair {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 2;
        }
    }
    rest.len()
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}
