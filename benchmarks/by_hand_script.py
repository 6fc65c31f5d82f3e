"""The shortest honest script that adds a modality to a BLIP-2 checkpoint with transformers and peft alone.

Video and sound of clips to short answers: one Q-Former with a LoRA per modality, queries and two linear maps each,
everything else frozen, all trained together. It imports nothing of this SDK; `benchmarks.by_hand` runs and counts it.
"""

import json
import random
from pathlib import Path

import av
import numpy as np
import torch
import torchaudio
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    Blip2ForConditionalGeneration,
    get_cosine_schedule_with_warmup,
)

FRAMES, WINDOWS, MELS, PATCH = 2, 4, 64, 8


class VideoAndSound(nn.Module):
    """BLIP-2 with a second modality."""

    def __init__(self, folder: str, rank: int = 16) -> None:
        super().__init__()
        self.blip = Blip2ForConditionalGeneration.from_pretrained(folder).eval().requires_grad_(False)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.pixels = AutoImageProcessor.from_pretrained(folder)
        lora = LoraConfig(r=rank, lora_alpha=rank, target_modules=["query", "value"])
        self.qformer = get_peft_model(self.blip.qformer, lora, adapter_name="video")
        self.qformer.add_adapter("audio", lora)
        width, keys = self.blip.config.qformer_config.hidden_size, self.blip.config.qformer_config.encoder_hidden_size
        queries = self.blip.query_tokens.detach()
        self.queries = nn.ParameterDict({name: nn.Parameter(queries.clone()) for name in ("video", "audio")})
        seen = self.blip.config.vision_config.hidden_size
        self.inputs = nn.ModuleDict({"video": nn.Linear(seen, keys), "audio": nn.Linear(MELS * PATCH, keys)})
        nn.init.eye_(self.inputs["video"].weight)
        nn.init.zeros_(self.inputs["video"].bias)
        out = self.blip.language_projection
        self.outputs = nn.ModuleDict({name: nn.Linear(width, out.out_features) for name in ("video", "audio")})
        for own in self.outputs.values():
            own.load_state_dict(out.state_dict())
        self.mel = torchaudio.transforms.MelSpectrogram(16000, n_fft=400, hop_length=160, n_mels=MELS)

    def read(self, video: Path, audio: Path) -> dict[str, torch.Tensor]:
        """Return frames as the frozen encoder sees them `(F, N, D)`, and patches of log mel windows `(W, N, M * P)`."""
        with av.open(str(video)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        middle = [frames[int((index + 0.5) * len(frames) / FRAMES)] for index in range(FRAMES)]
        with torch.no_grad():
            seen = self.blip.vision_model(self.pixels(middle, return_tensors="pt").pixel_values).last_hidden_state
        with av.open(str(audio)) as container:
            resampler = av.AudioResampler("flt", "mono", 16000)
            pieces = [own for frame in container.decode(audio=0) for own in resampler.resample(frame)]
        sound = np.concatenate([own.to_ndarray()[0] for own in pieces])
        heard = (self.mel(torch.from_numpy(sound)) + 1e-6).log()
        length = heard.shape[1] // (WINDOWS * PATCH) * PATCH
        windows = heard[:, : WINDOWS * length].unflatten(1, (WINDOWS, -1, PATCH))
        return {"video": seen, "audio": windows.permute(1, 2, 0, 3).flatten(2)}

    def tokens(self, name: str, values: torch.Tensor) -> torch.Tensor:
        """Return the tokens of a modality `(B, T * Q, L)` from its steps `(B, T, N, D)`."""
        self.qformer.set_adapter(name)
        steps = self.inputs[name](values.flatten(0, 1))
        queries = self.queries[name].expand(len(steps), -1, -1)
        hidden = self.qformer(query_embeds=queries, encoder_hidden_states=steps).last_hidden_state
        return self.outputs[name](hidden).unflatten(0, values.shape[:2]).flatten(1, 2)

    def prompt(self, batch: dict[str, torch.Tensor], questions: list[str]) -> dict[str, torch.Tensor]:
        """Return the language model's inputs."""
        asked = self.tokenizer(questions, padding=True, return_tensors="pt")
        given = [self.tokens(name, batch[name]) for name in ("video", "audio")]
        embeds = torch.cat([*given, self.blip.language_model.get_input_embeddings()(asked.input_ids)], 1)
        mask = torch.ones(embeds.shape[:2], dtype=torch.int64)
        mask[:, -asked.attention_mask.shape[1] :] = asked.attention_mask
        return {"inputs_embeds": embeds, "attention_mask": mask}

    def loss(self, batch: dict[str, torch.Tensor], questions: list[str], answers: list[str]) -> torch.Tensor:
        """Return the loss of the answers."""
        labels = self.tokenizer(answers, padding=True, return_tensors="pt")
        ids = labels.input_ids.masked_fill(labels.attention_mask == 0, -100)
        return self.blip.language_model(**self.prompt(batch, questions), labels=ids).loss

    @torch.no_grad()
    def answer(self, batch: dict[str, torch.Tensor], questions: list[str]) -> list[str]:
        """Return short answers."""
        found = self.blip.language_model.generate(**self.prompt(batch, questions), max_new_tokens=3)
        return [text.strip() for text in self.tokenizer.batch_decode(found, skip_special_tokens=True)]


def lines_of(path: Path) -> list[dict[str, str]]:
    """Return the questions about video and sound of a data file."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [own for own in found if own["type"] in ("color", "shape", "first_sound")]


def run(folder: str, train: Path, test: Path, *, epochs: int, lr: float, seed: int, batch_size: int = 32) -> float:
    """Train and return the accuracy."""
    torch.manual_seed(seed)
    model = VideoAndSound(folder)
    known: dict[tuple[Path, str], dict[str, torch.Tensor]] = {}

    def batch_of(place: Path, lines: list[dict[str, str]]) -> dict[str, torch.Tensor]:
        for own in lines:
            key = place, own["video"]
            if key not in known:
                known[key] = model.read(place.parent / own["video"], place.parent / own["audio"])
        return {name: torch.stack([known[place, own["video"]][name] for own in lines]) for name in ("video", "audio")}

    lines = lines_of(train)
    trained = [own for name, own in model.named_parameters() if not name.startswith("blip.") or "lora_" in name]
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=0.01)
    steps = epochs * -(-len(lines) // batch_size)
    schedule = get_cosine_schedule_with_warmup(optimizer, int(0.06 * steps), steps)
    for _ in range(epochs):
        random.Random(seed).shuffle(lines)
        for start in range(0, len(lines), batch_size):
            few = lines[start : start + batch_size]
            for own in trained:  # set_adapter freezes the adapter that is not active
                own.requires_grad_(True)
            loss = model.loss(batch_of(train, few), [own["question"] for own in few], [own["answer"] for own in few])
            for own in trained:
                own.requires_grad_(True)
            loss.backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    right = 0
    asked = lines_of(test)
    for start in range(0, len(asked), 128):
        few = asked[start : start + 128]
        found = model.answer(batch_of(test, few), [own["question"] for own in few])
        right += sum(text == own["answer"] for text, own in zip(found, few, strict=True))
    return right / len(asked)
