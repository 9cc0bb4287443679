//! What the reference's scripts call our parameters: transformers' names.

/// What transformers calls our parameter.
pub fn file_name(ours: &str) -> String {
    let text = |part: &str, rest: &str| {
        let places = [
            ("embeddings.words", "embeddings.word_embeddings.weight"),
            ("embeddings.positions", "embeddings.position_embeddings.weight"),
            ("embeddings.norm", "embeddings.LayerNorm"),
            ("self.query", "attention.self.query"),
            ("self.key", "attention.self.key"),
            ("self.value", "attention.self.value"),
            ("self.output", "attention.output.dense"),
            ("self.norm", "attention.output.LayerNorm"),
            ("cross.query", "crossattention.self.query"),
            ("cross.key", "crossattention.self.key"),
            ("cross.value", "crossattention.self.value"),
            ("cross.output", "crossattention.output.dense"),
            ("cross.norm", "crossattention.output.LayerNorm"),
            ("intermediate", "intermediate.dense"),
        ];
        let rest = rest.replace("layers.", "encoder.layer.");
        for (from, to) in places {
            if let Some(at) = rest.find(from) {
                return format!("{part}.{}{to}{}", &rest[..at], &rest[at + from.len()..]);
            }
        }
        let rest = rest.replace(".output.", ".output.dense.").replace(".norm.", ".output.LayerNorm.");
        format!("{part}.{rest}")
    };
    match ours.split_once('.') {
        Some(("vision", rest)) => {
            let name = match rest {
                "class_embedding" | "position_embedding" => format!("embeddings.{rest}"),
                _ if rest.starts_with("patch") => format!("embeddings.{rest}"),
                _ if rest.starts_with("norm") => rest.replace("norm", "post_layernorm"),
                _ => format!("encoder.{rest}")
                    .replace("norm1", "layer_norm1")
                    .replace("norm2", "layer_norm2")
                    .replace("qkv", "self_attn.qkv")
                    .replace("projection", "self_attn.projection")
                    .replace("fc", "mlp.fc"),
            };
            format!("vision_model.{name}")
        }
        Some(("encoder", rest)) => text("text_encoder", rest),
        Some(("decoder", rest)) if rest.starts_with("head") => {
            let rest = rest.strip_prefix("head.").expect("the golden is as its README says");
            let rest = rest.replace("transform.", "transform.dense.").replace("norm.", "transform.LayerNorm.");
            format!("text_decoder.cls.predictions.{rest}")
        }
        Some(("decoder", rest)) => text("text_decoder.bert", rest),
        Some(("vision_projection", rest)) => format!("vision_proj.{rest}"),
        Some(("text_projection", rest)) => format!("text_proj.{rest}"),
        _ if ours == "temperature" => "temp".to_owned(),
        _ => ours.to_owned(),
    }
}
