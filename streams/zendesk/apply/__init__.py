"""`lapse apply`: carries commands out at Zendesk's API (SPEC section 11)."""
