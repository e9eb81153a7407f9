"""Who may come and what they may do: keys, the trust list, the authority that asks for both, and the record of refusals."""
