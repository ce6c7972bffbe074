"""The network: SigLIP, three Gemma experts, one attention, flow matching, the depth head."""
