//! BLIP: image encoder, and text models that share what the paper shares.
