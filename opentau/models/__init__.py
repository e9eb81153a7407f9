"""The parts of a vision-language-action model: attention, masks, norms, towers, transformer, action expert, flow matching.

Each part exists once; a model of the π family is a set of values for `opentau.models.config`.
"""
