"""What COCO's files of annotations say, for tests."""


def sample(numbers):
    """This many images of noise, and their annotations as in COCO's file."""
    images = [
        {"id": 7 * i, "file_name": f"{i:012}.jpg", "height": 48, "width": 64} for i in numbers
    ]
    notes = [
        {"id": 3 * i, "image_id": 7 * i, "category_id": 5, "bbox": [4, 6, 30, 20], "iscrowd": 0}
        for i in numbers
    ]
    other = {"image_id": 7 * numbers[0], "category_id": 90}
    notes.append(other | {"id": 9001, "bbox": [0, 0, 64, 48], "iscrowd": 1})
    notes.append(other | {"id": 9002, "bbox": [3, 3, 0, 5], "iscrowd": 0})
    categories = [{"id": 90, "name": "brush"}, {"id": 5, "name": "plane"}]
    return {"images": images, "annotations": notes, "categories": categories}
