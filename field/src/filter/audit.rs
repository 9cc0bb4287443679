//! Which rejected pictures are kept for auditing: by their id, so that a second look picks the same ones.

/// Whether the picture of the pair with this id is in the share.
pub fn is_audited(pair: &[u8], share: f64) -> bool {
    // A hash below 1 as often as it lies below the share; 53 bits are what an f64 holds.
    const UNIT: f64 = 1.0 / (1_u64 << 53) as f64;
    ((hash(pair) >> 11) as f64 * UNIT) < share
}

/// FNV-1a of 64 bits, then the finalizer of MurmurHash3: ids that differ in one number have nothing in common after it.
///
/// Sources: Fowler, Noll and Vo, draft-eastlake-fnv; Appleby, MurmurHash3, `fmix64`.
fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mixed = (fnv ^ (fnv >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ (mixed >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_in_a_row_are_audited_in_their_share_and_not_in_runs() {
        for share in [0.0, 0.01, 0.05, 0.5, 1.0] {
            let audited: Vec<bool> = (0_u64..20_000).map(|pair| is_audited(&pair.to_be_bytes(), share)).collect();
            let count = |of: &[bool]| of.iter().filter(|audited| **audited).count() as f64;
            // Five deviations of a binomial distribution.
            let apart = 5.0 * (20_000.0 * share * (1.0 - share)).sqrt();
            assert!((count(&audited) - 20_000.0 * share).abs() <= apart, "{share}: {}", count(&audited));
            let after_one: Vec<bool> = audited.windows(2).filter(|pair| pair[0]).map(|pair| pair[1]).collect();
            let apart = 5.0 * (after_one.len() as f64 * share * (1.0 - share)).sqrt();
            assert!((count(&after_one) - after_one.len() as f64 * share).abs() <= apart);
        }
    }

    #[test]
    fn a_larger_share_has_the_pairs_of_the_smaller() {
        for pair in 0_u64..2000 {
            let pair = pair.to_be_bytes();
            assert!(!is_audited(&pair, 0.05) || is_audited(&pair, 0.06));
        }
    }

    #[test]
    fn the_hash_starts_as_its_authors_do() {
        // draft-eastlake-fnv, appendix: FNV-1a of "" and of "a"; then `fmix64`.
        let mix = |mut hash: u64| {
            hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
            hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
            hash ^ (hash >> 33)
        };
        assert_eq!(hash(b""), mix(0xcbf2_9ce4_8422_2325));
        assert_eq!(hash(b"a"), mix(0xaf63_dc4c_8601_ec8c));
    }
}
