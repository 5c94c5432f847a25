// Companion in Express with nothing but S3: no session and no second body parser, which only sign-ins need.
// `overrides` in package.json: not every registry has the 3.986.0 it asks for; only its form route uses it.

import * as companion from '@uppy/companion'
import express from 'express'

const { PORT, S3_ENDPOINT, BUCKET, REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, FOLDER } = process.env

const app = express()
const { app: companionApp } = companion.app({
  s3: {
    getKey: ({ filename }) => `companion/${crypto.randomUUID()}/${filename}`,
    key: AWS_ACCESS_KEY_ID,
    secret: AWS_SECRET_ACCESS_KEY,
    bucket: BUCKET,
    region: REGION,
    endpoint: S3_ENDPOINT,
    forcePathStyle: true,
    expires: 3600,
    // Without it, Companion signs the checksum of an empty body, and the bucket refuses every part.
    awsClientOptions: { requestChecksumCalculation: 'WHEN_REQUIRED' },
  },
  server: { host: `127.0.0.1:${PORT}`, protocol: 'http' },
  filePath: FOLDER,
  secret: 'a secret for this benchmark',
  uploadUrls: [`http://127.0.0.1:${PORT}`],
  corsOrigins: true,
  metrics: false,
})
app.get('/', (_, response) => response.send('ready'))
app.use(companionApp)
app.listen(Number(PORT), '127.0.0.1')
