//! Texts that are empty, far too long, or written in letters that the model does not know.

use anyhow::{Context, Result};

use super::PICTURE;
use crate::command_line::{run, with_bundle};

const ANSWERER: &str = "tests/goldens/tiny-b/answerer";

#[test]
fn an_empty_text_is_a_text() -> Result<()> {
    for text in ["", "   ", "\t"] {
        assert!(run("edgeblip", &["score", PICTURE, text])?.content()?.starts_with("ITM "));
        assert_eq!(run("edgeblip", &["embed", "--text", text])?.content()?.lines().count(), 1);
        assert_eq!(run("edgeblip", &["search", text, "examples/images"])?.content()?.lines().count(), 6);
        assert!(run("edgeblip", &["caption", PICTURE, "--prompt", text])?.content()?.ends_with("a car at night\n"));
        assert_eq!(with_bundle("ask", ANSWERER, &[PICTURE, text])?.content()?.lines().count(), 1);
    }
    Ok(())
}

#[test]
fn ten_thousand_words_are_refused_with_the_number_that_fits() -> Result<()> {
    let text = "car ".repeat(10_000);
    let long = "the text has 10002 tokens, the model has 32 positions: shorten it";
    run("edgeblip", &["embed", "--text", &text])?.refused(&[long])?;
    run("edgeblip", &["search", &text, "examples/images"])?.refused(&[long])?;
    let scored = run("edgeblip", &["score", PICTURE, &text, "a car at night"])?;
    scored.refused(&[long, "scoring \"car car"])?;
    assert_eq!((scored.code, scored.out.lines().count()), (1, 1));
    let asked = with_bundle("ask", ANSWERER, &[PICTURE, &text])?;
    asked.refused(&["question: the text has 10002 tokens, the model has 24 positions: shorten it"])?;
    let captioned = run("edgeblip", &["caption", PICTURE, "--prompt", &text])?;
    captioned.refused(&[PICTURE, "the prompt has 10001 tokens, start token included, and max_length is"])?;
    Ok(())
}

#[test]
fn a_prompt_longer_than_the_position_table_is_refused() -> Result<()> {
    let prompt = "a car ".repeat(20);
    let flags =
        |length: &'static str| ["caption", PICTURE, "--prompt", &prompt, "--max-length", length].map(str::to_owned);
    run("edgeblip", &flags("100"))?
        .refused(&["max length is 100 tokens, the model has 32 positions: ask for at most 32"])?;
    run("edgeblip", &flags("32"))?
        .refused(&["the prompt has 41 tokens, start token included, and max_length is 32"])?;
    let most = "car ".repeat(30);
    let ran = run("edgeblip", &["caption", PICTURE, "--prompt", &most, "--max-length", "32"])?;
    assert!(ran.content()?.contains(most.trim_end()), "{}", ran.out);
    Ok(())
}

#[test]
fn a_text_of_a_megabyte_is_refused() -> Result<()> {
    let word = "a".repeat(100_000);
    let ran = run("edgeblip", &["score", PICTURE, &word])?;
    assert!(ran.code == 0 || ran.code == 1, "one word is one unknown token, or too long: {}", ran.err);
    let model =
        crate::bundles::model(&["tests/goldens/tiny-b/matcher"], blip::manifest::Precision::Int8, Default::default())?;
    let text = "a ".repeat(1 << 20);
    let error = model.matcher()?.embed_text(&text).err().context("two megabytes are too long")?.to_string();
    assert!(error.contains("is the most that is taken") || error.contains("shorten it"), "{error}");
    Ok(())
}

#[test]
fn unknown_characters_are_unknown_words() -> Result<()> {
    let odd = "猫 🐈 \u{200b} ẞ \u{1b}[31m \u{7f} \u{e000} \u{10ffff} e\u{301}";
    let score = run("edgeblip", &["score", PICTURE, odd])?;
    assert!(score.content()?.starts_with("ITM ") && score.out.contains('猫'), "{}", score.out);
    let line = &run("edgeblip", &["score", PICTURE, odd, "--json"])?.json()?[0];
    assert_eq!(line["text"], odd);
    run("edgeblip", &["embed", "--text", odd])?.content()?;
    run("edgeblip", &["search", odd, "examples/images"])?.content()?;
    run("edgeblip", &["caption", PICTURE, "--prompt", odd])?.content()?;
    with_bundle("ask", ANSWERER, &[PICTURE, odd])?.content()?;
    Ok(())
}
