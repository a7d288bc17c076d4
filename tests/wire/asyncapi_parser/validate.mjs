// Parses an AsyncAPI document with the official parser and prints what it finds as JSON: `node validate.mjs FILE`.
import {readFileSync} from 'node:fs';
import {Parser} from '@asyncapi/parser';

const {document, diagnostics} = await new Parser().parse(readFileSync(process.argv[2], 'utf8'));
console.log(JSON.stringify({
  channels: document ? document.channels().all().map((channel) => channel.address()) : null,
  diagnostics: diagnostics.map(({severity, message, path}) => ({severity, message, path: path.join('.')})),
}));
