"""Top-down models at work: people are found as boxes, each box is cut out, and a network looks at one person at a time.

`stages` is the whole of it; `finder` says where people are, `crops` cuts them out, `heatmaps` has their keypoints,
`likeness` tells who is whom; `styles` says how each system does that, `options` what a user may choose.

Nothing is imported here: who wants to know which decodings there are need not load the two stages.
"""
