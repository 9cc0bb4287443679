//! The three losses: ITC, ITM and LM.
