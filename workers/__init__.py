"""Everything around one governed call; knows no business."""
