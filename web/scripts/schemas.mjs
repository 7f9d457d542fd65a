// Makes `src/schema/events.ts` from `../schemas`: run it after a schema has changed (`npm run schemas`).
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";

const FOLDER = new URL("../../schemas/", import.meta.url);
const TARGET = new URL("../src/schema/events.ts", import.meta.url);

/** The file's text as it should be. */
export function generate() {
  const schemas = readdirSync(FOLDER)
    .filter((name) => name.endsWith(".json"))
    .sort()
    .map((name) => JSON.parse(readFileSync(new URL(name, FOLDER), "utf8")));
  const parts = ["// Made from ../schemas by `npm run schemas`; a test fails when it is out of date.\n"];
  for (const schema of schemas) {
    parts.push(`/** ${schema.description} */\nexport interface ${typeName(schema["x-type"])} {\n${fields(schema)}}\n`);
  }
  const members = schemas.map((s) => `  ${JSON.stringify(s["x-type"])}: ${typeName(s["x-type"])};\n`);
  parts.push(
    `/** The payload of each type that has a schema. */\nexport interface DataByType {\n${members.join("")}}\n`,
  );
  const known = schemas.map((s) => `  ${JSON.stringify(s["x-type"])}: ${fieldList(s)},\n`);
  parts.push(
    `/** Fields of \`data\` by type, as search knows them. */\nexport const FIELDS: Readonly<Record<keyof DataByType, readonly string[]>> = {\n${known.join("")}};\n`,
  );
  const worded = schemas.flatMap((s) =>
    Object.entries(s.properties).flatMap(([n, p]) => (p["x-text"] ? [`data.${n}`] : [])),
  );
  const unique = [...new Set(worded)].sort().map((name) => `  ${JSON.stringify(name)},\n`);
  parts.push(
    `/** Fields of text that search finds by words; the exact value stands under \`NAME.keyword\`. */\nexport const WORDED: ReadonlySet<string> = new Set([\n${unique.join("")}]);\n`,
  );
  return parts.join("\n");
}

function typeName(type) {
  return `${type
    .split(/[._]/)
    .map((word) => word[0].toUpperCase() + word.slice(1))
    .join("")}Data`;
}

function fields(schema) {
  const required = new Set(schema.required ?? []);
  return Object.entries(schema.properties)
    .map(([name, property]) => {
      const unit = property["x-unit"] ? ` (${property["x-unit"]})` : "";
      return `  /** ${property.description}${unit} */\n  ${name}${required.has(name) ? "" : "?"}: ${typeOf(property)};\n`;
    })
    .join("");
}

function fieldList(schema) {
  const names = Object.keys(schema.properties).map((name) => JSON.stringify(name));
  return `[${names.join(", ")}]`;
}

function typeOf(property) {
  if (property["x-json"] || (property.type === "object" && !property.properties)) return "unknown";
  if (property.enum) return property.enum.map((value) => JSON.stringify(value)).join(" | ");
  switch (property.type) {
    case "integer":
    case "number":
      return "number";
    case "boolean":
      return "boolean";
    case "string":
      return "string";
    case "array":
      return `${typeOf(property.items)}[]`;
    default:
      throw new Error(`a property of type ${JSON.stringify(property.type)} has no TypeScript type yet`);
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  writeFileSync(TARGET, generate());
  console.log(`wrote ${fileURLToPath(TARGET)}`);
}
