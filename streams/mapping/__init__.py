"""Records of another shape: a mapping file says where the members of our records are found in theirs."""
