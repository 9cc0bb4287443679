//! What each graph of a captioner runs, for the built-in bundle and for a model with the layers of BLIP-base.

/// Operators of one graph, by name; counts are those of one run, and each graph but the decoder's runs once a caption.
pub struct Plan {
    /// The graph's file.
    pub graph: &'static str,
    /// What has a kernel of ours.
    pub ours: &'static [(&'static str, u64)],
    /// What tract multiplies, and packs for it.
    pub products: &'static [(&'static str, u64)],
    /// What else is tract's: it moves a few values or adds small tables, and how often is up to tract.
    pub light: &'static [&'static str],
}

pub const STARTER: &[Plan] = &[
    Plan {
        graph: "vision.onnx",
        ours: &[("Attention", 4), ("LayerNormalization", 9), ("QuantizedLinear", 16)],
        products: &[("OptMatMul", 1), ("OptMatMulPack", 1)],
        light: VISION,
    },
    Plan { graph: "cross.onnx", ours: &[("KeysAndValues", 3), ("QuantizedLinear", 3)], products: &[], light: CROSS },
    Plan {
        graph: "decoder.onnx",
        ours: &[
            ("CachedAttention", 3),
            ("CrossAttention", 3),
            ("LayerNormalization", 11),
            ("QuantizedEmbedding", 1),
            ("QuantizedLinear", 20),
        ],
        products: &[],
        light: DECODER,
    },
];

pub const BASE: &[Plan] = &[
    Plan {
        graph: "vision.onnx",
        ours: &[("Attention", 12), ("LayerNormalization", 25), ("QuantizedLinear", 48)],
        products: &[("OptMatMul", 1), ("OptMatMulPack", 1)],
        light: VISION,
    },
    Plan { graph: "cross.onnx", ours: &[("KeysAndValues", 12), ("QuantizedLinear", 12)], products: &[], light: CROSS },
    Plan {
        graph: "decoder.onnx",
        ours: &[
            ("CachedAttention", 12),
            ("CrossAttention", 12),
            ("LayerNormalization", 38),
            ("QuantizedEmbedding", 1),
            ("QuantizedLinear", 74),
        ],
        products: &[],
        light: DECODER,
    },
];

const VISION: &[&str] = &["Concat", "IntoShape", "MoveAxis", "OptAddUnicast", "Source"];
const CROSS: &[&str] = &["Source"];
const DECODER: &[&str] = &["Add", "Gather", "Slice", "Source"];
