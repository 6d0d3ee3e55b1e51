"""Tiny folders in the layouts of the published data sets."""

import numpy as np
from PIL import Image
from scipy.io import savemat


def photographs_in(folder, names):
    for name in names:
        generator = np.random.default_rng(list(name.encode()))
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 255, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)


def tiny_cub(home):
    folder = home / "CUB_200_2011"
    names = [f"{c:03}.Bird/Bird_{i}.jpg" for c in (1, 2, 99, 101, 200) for i in range(3)]
    photographs_in(folder / "images", names)
    numbered = list(enumerate(names, 1))
    (folder / "images.txt").write_text("".join(f"{i} {name}\n" for i, name in numbered))
    classes = "".join(f"{i} {int(name[:3])}\n" for i, name in numbered)
    (folder / "image_class_labels.txt").write_text(classes)


def tiny_cars(home):
    folder = home / "cars196"
    names = [f"car_ims/{i:06}.jpg" for i in range(15)]
    photographs_in(folder, names)
    kind = [("relative_im_path", object), ("class", "u1")]
    classes = [1, 2, 98, 99, 196]
    rows = np.array([(name, classes[i // 3]) for i, name in enumerate(names)], kind)
    savemat(folder / "cars_annos.mat", {"annotations": rows[None]})


def tiny_sop(home):
    folder, number = home / "Stanford_Online_Products", 0
    for table, classes in (("Ebay_train.txt", (1, 2, 3)), ("Ebay_test.txt", (11319, 22634))):
        lines = ["image_id class_id super_class_id path"]
        for c in classes:
            for i in range(3):
                number += 1
                photographs_in(folder, [f"sofa_final/{c}_{i}.JPG"])
                lines.append(f"{number} {c} 1 sofa_final/{c}_{i}.JPG")
        (folder / table).write_text("\n".join(lines) + "\n")


def tiny_inshop(home):
    folder = home / "Inshop_Clothes"
    kinds = {1: "train", 2: "train", 5: "train", 7: "query", 8: "query"}
    names = [f"img/WOMEN/id_{c:08}/0{i}_1_front.jpg" for c in kinds for i in range(3)]
    photographs_in(folder / "Img", names)
    lines = [str(len(names)), "image_name item_id evaluation_status"]
    for name in names:
        item, number = name.split("/")[2], name.split("/")[3]
        kind = kinds[int(item[3:])]
        kind = "gallery" if kind == "query" and number > "01" else kind
        lines.append(f"{name} {item} {kind}")
    (folder / "Eval").mkdir()
    (folder / "Eval/list_eval_partition.txt").write_text("\n".join(lines) + "\n")


TINY = {"cub": tiny_cub, "cars": tiny_cars, "sop": tiny_sop, "inshop": tiny_inshop}
