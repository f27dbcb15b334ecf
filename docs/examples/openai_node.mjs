// Images with OpenAI's client for Node.js: only the base URL and the key differ.
// npm install openai@6.30.1

import { writeFile } from "node:fs/promises";
import OpenAI from "openai";

const client = new OpenAI({
  baseURL: (process.env.CATIMAGE_URL ?? "http://127.0.0.1:3000") + "/v1",
  apiKey: process.env.CATIMAGE_API_KEY || "none",
});
const prompt = "two small red rings on a green wall";

// The router selects the candidate. Fields of CATImage, such as seed, are sent as they are.
const answer = await client.images.generate({ prompt, model: "auto", quality: "low", seed: 7 });
await writeFile("openai_node.png", Buffer.from(answer.data[0].b64_json, "base64"));
const summary = answer.catimage;
console.log("candidate", summary.candidate, "cost", summary.cost, "saved", summary.saved);

// Partial images while the image is generated.
const stream = await client.images.generate({ prompt, stream: true, partial_images: 2 });
for await (const event of stream) console.log("event", event.type);

// Errors have OpenAI's classes.
try {
  await client.images.generate({ prompt, background: "transparent" });
} catch (error) {
  if (!(error instanceof OpenAI.BadRequestError)) throw error;
  console.log("error", error.param);
}
